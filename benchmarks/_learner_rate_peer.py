"""LeRobot's SAC learner as a subject of learner_rate.py; runs in LeRobot's own environment, knows nothing of ours.

One update is one pass of `lerobot.rl.learner.add_actor_information_and_train` at its defaults (utd_ratio 1,
policy_update_freq 1), in LeRobot's own calls and order: sample both buffers, critic, discrete critic, actor,
temperature, targets, and the figures it reads back. Left out are only the queues to the actor and the logging.
Protocol: the first line on stdin is the JSON of settings; then each number is answered with one JSON line.
"""

# pyright: reportMissingImports=false
import json
import sys
import time
from types import SimpleNamespace
from typing import Any

import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.sac.configuration_sac import SACConfig
from lerobot.policies.sac.modeling_sac import SACPolicy
from lerobot.rl.buffer import ReplayBuffer, concatenate_batch_transitions
from lerobot.rl.learner import check_nan_in_transition, get_observation_features, make_optimizers_and_scheduler

STATE, ACTION = "observation.state", "action"


def make_policy(settings: dict) -> SACPolicy:
    dims, arm = settings["state_dim"], settings["action_dim"] - 1
    config = SACConfig(
        device="cpu",
        input_features={STATE: PolicyFeature(FeatureType.STATE, (dims,))},
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (arm,))},
        dataset_stats={
            STATE: {"min": [-1.0] * dims, "max": [1.0] * dims},
            ACTION: {"min": [-1.0] * arm, "max": [1.0] * arm},
        },
        num_critics=settings["num_critics"],
        num_discrete_actions=3,
        discount=settings["discount"],
        temperature_init=0.01,
        use_backup_entropy=False,
        use_torch_compile=settings["compile"],
    )
    policy = SACPolicy(config)
    policy.train()
    return policy


def make_buffer(settings: dict, generator: torch.Generator) -> ReplayBuffer:
    dims, arm = settings["state_dim"], settings["action_dim"] - 1
    buffer = ReplayBuffer(settings["transitions"], device="cpu", state_keys=[STATE], use_drq=False)
    states = torch.randn(settings["transitions"] + 1, 1, dims, generator=generator)
    for index in range(settings["transitions"]):
        arm_action = torch.rand(1, arm, generator=generator) * 2 - 1
        gripper = torch.randint(3, (1, 1), generator=generator).float()
        buffer.add(
            {STATE: states[index]},
            torch.cat([arm_action, gripper], 1),
            float(index % 50 == 49),
            {STATE: states[index + 1]},
            index % 50 == 49,
            index % 100 == 99,
            {"discrete_penalty": torch.tensor([0.0])},
        )
    return buffer


class Subject:
    def __init__(self, settings: dict) -> None:
        generator = torch.Generator().manual_seed(settings["seed"])
        torch.manual_seed(settings["seed"])
        self.policy = make_policy(settings)
        self.optimizers, _ = make_optimizers_and_scheduler(SimpleNamespace(policy=self.policy.config), self.policy)
        half = settings["batch_size"] // 2
        self.iterators = [
            make_buffer(settings, generator).get_iterator(half, async_prefetch=False, queue_size=2) for _ in range(2)
        ]

    def update(self) -> None:
        online, offline = (next(iterator) for iterator in self.iterators)
        batch = concatenate_batch_transitions(left_batch_transitions=online, right_batch_transition=offline)
        check_nan_in_transition(observations=batch["state"], actions=batch[ACTION], next_state=batch["next_state"])
        features, next_features = get_observation_features(self.policy, batch["state"], batch["next_state"])
        forward = {
            ACTION: batch[ACTION],
            "reward": batch["reward"],
            "state": batch["state"],
            "next_state": batch["next_state"],
            "done": batch["done"],
            "observation_feature": features,
            "next_observation_feature": next_features,
            "complementary_info": batch["complementary_info"],
        }
        policy = self.policy
        self._step(forward, "critic", policy.critic_ensemble.parameters())
        self._step(forward, "discrete_critic", policy.discrete_critic.parameters())
        self._step(forward, "actor", policy.actor.parameters())
        self._step(forward, "temperature", [policy.log_alpha])
        policy.update_target_networks()

    def _step(self, batch: dict, model: str, parameters: Any) -> None:
        loss = self.policy.forward(batch, model=model)[f"loss_{model}"]
        self.optimizers[model].zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters=parameters, max_norm=self.policy.config.grad_clip_norm)
        norm.item()
        self.optimizers[model].step()
        loss.item()


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    torch.set_num_threads(settings["threads"])
    subject = Subject(settings)
    for _ in range(settings["warmup"]):
        subject.update()
    print(json.dumps({"ready": True, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            subject.update()
        print(json.dumps({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    main()
