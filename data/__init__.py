"""Episodes at rest (journal, zarr store, memmap cache) and in memory (replay)."""
