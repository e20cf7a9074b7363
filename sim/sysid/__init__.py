"""System identification of an arm: excitation, log, fit, posterior, residuals, report."""
