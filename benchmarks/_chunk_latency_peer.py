"""LeRobot's DiffusionPolicy as a subject of chunk_latency.py; runs in LeRobot's own environment, knows nothing of ours.

Everything at its defaults (a U-Net of 512, 1024, 2048; horizon 16; two observations; 100 evaluations), without
cameras: a state, and the objects' as the environment's. What is timed is `diffusion.generate_actions`.
Protocol: the first line on stdin is the JSON of settings; then each number is answered with one JSON line.
"""

# pyright: reportMissingImports=false
import json
import sys
import time

import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    config = DiffusionConfig(
        device="cpu",
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (settings["state_dim"] - 9,)),
            "observation.environment_state": PolicyFeature(FeatureType.ENV, (9,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (settings["action_dim"],))},
    )
    policy = DiffusionPolicy(config).eval()
    batch = {
        "observation.state": torch.randn(1, config.n_obs_steps, settings["state_dim"] - 9),
        "observation.environment_state": torch.randn(1, config.n_obs_steps, 9),
    }
    parameters = sum(one.numel() for one in policy.parameters())
    print(json.dumps({"ready": True, "torch": torch.__version__, "parameters": parameters}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            for _ in range(int(line)):
                policy.diffusion.generate_actions(batch)
        print(json.dumps({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    main()
