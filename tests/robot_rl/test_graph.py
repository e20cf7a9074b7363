"""The graph file: what it may say, and the command lines that come out."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from robot_rl.apps.graph import Graph, graph_names, graph_path, parse_overrides, read_graph, resolve
from robot_rl.apps.wiring import build_policy, node_experiment
from robot_rl.errors import ConfigError, UnknownNameError

LAUNCH_FILE = Path(__file__).resolve().parents[2] / "launch" / "robot_rl.launch.py"


def write(folder: Path, nodes: list[dict[str, Any]], **rest: Any) -> Path:
    path = folder / "lab.yaml"
    path.write_text(yaml.safe_dump({"nodes": nodes, **rest}, sort_keys=False))
    return path


def graph(folder: Path, nodes: list[dict[str, Any]], *overrides: str, environ=None, **rest: Any) -> Graph:
    return resolve(read_graph(write(folder, nodes, **rest)), parse_overrides(overrides), environ or {})


def names(graph: Graph) -> list[str]:
    return [process.node.name for process in graph.processes]


def test_command_line_of_a_module(tmp_path: Path) -> None:
    node = {
        "name": "arm",
        "module": "hardware.nodes.arm",
        "args": ["--robot", "${robot}"],
        "params": {
            "ip": "${ip}",
            "rate": 20,
            "use": "${use_sim}",
            "text": "1",
            "no": "${none}",
            "a": {"b": [1]},
        },
        "remap": {"target_pose": "/other/${robot}"},
    }
    args = {"namespace": "", "robot": "fr3", "ip": "10.0.0.1", "use_sim": False, "none": ""}
    process = graph(tmp_path, [node], "namespace=lab/left", "use_mock_hardware=true", args=args).processes[0]
    assert list(process.command[1:]) == [
        *("-P", "-m", "hardware.nodes.arm", "--robot", "fr3", "--ros-args"),
        *("-r", "__node:=arm", "-r", "__ns:=/lab/left", "-r", "target_pose:=/other/fr3"),
        *("-p", 'ip:="10.0.0.1"', "-p", "rate:=20", "-p", "use:=true", "-p", 'text:="1"', "-p", "a.b:=[1]"),
    ]


def test_environment_defaults_give_way_to_the_user(tmp_path: Path) -> None:
    node = {"name": "a", "command": ["true"], "threads": 2, "env": {"X": "${n}"}}
    env = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    process = graph(tmp_path, [node], args={"n": 3}, env=env).processes[0]
    assert process.env["ROS_DOMAIN_ID"] == "0"
    assert process.env["FASTDDS_BUILTIN_TRANSPORTS"] == "LARGE_DATA"
    assert process.env["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert process.env["OMP_NUM_THREADS"] == "2" and process.env["X"] == "3"
    user = {"ROS_DOMAIN_ID": "7", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "X": "user"}
    process = graph(tmp_path, [node], args={"n": 3}, env=env, environ=user).processes[0]
    assert process.env["ROS_DOMAIN_ID"] == "7"
    assert process.env["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"
    assert process.env["X"] == "3"  # a node's own setting is meant for it alone


def test_when_leaves_nodes_out_and_frees_those_that_depended_on_them(tmp_path: Path) -> None:
    nodes = [
        {"name": "actor", "command": ["a"], "depends_on": ["arm", "sim"]},
        {"name": "arm", "command": ["a"], "when": "not use_sim"},
        {"name": "sim", "command": ["a"], "when": "use_sim"},
        {"name": "gui", "command": ["a"], "when": "use_sim and not headless"},
        {"name": "guard", "command": ["a"], "when": "use_sim"},
        {"name": "guard", "command": ["b"], "when": "not use_sim"},
    ]
    args = {"use_sim": False, "headless": False}
    real = graph(tmp_path, nodes, args=args)
    assert names(real) == ["arm", "actor", "guard"] and real.processes[-1].command == ("b",)
    assert names(graph(tmp_path, nodes, "use_sim=true", args=args)) == ["sim", "actor", "gui", "guard"]
    headless = graph(tmp_path, nodes, "use_sim=true", "headless=true", args=args)
    assert names(headless) == ["sim", "actor", "guard"]


def test_file_order_is_kept_where_dependencies_allow(tmp_path: Path) -> None:
    nodes = [
        {"name": "c", "command": ["x"], "depends_on": ["b"]},
        {"name": "a", "command": ["x"]},
        {"name": "b", "command": ["x"]},
    ]
    assert names(graph(tmp_path, nodes)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ([{"name": "a"}], "either `module` or `command`"),
        ([{"name": "a", "module": "m", "command": ["x"]}], "either `module` or `command`"),
        ([{"name": "a b", "command": ["x"]}], "letters"),
        ([{"name": "../a", "command": ["x"]}], "letters"),
        ([{"name": "a", "command": ["x"]}] * 2, "two nodes"),
        ([{"name": "a", "command": ["x"], "depends_on": ["b"]}], "valid choices: a"),
        ([{"name": "a", "command": ["x"], "params": {"p": 1}}], "need `module`"),
        ([{"name": "a", "command": ["x"], "restart": "always"}], "on-failure"),
        ([{"name": "a", "command": ["x"], "nice": -5}], "0..19"),
        ([{"name": "a", "command": ["x"], "respawn": True}], "restart"),
        ([{"name": "a", "command": ["x"], "ready": {"lines": "x"}}], r"nodes\[0\].ready.lines"),
        ([{"name": "a", "command": ["x"], "ready": {"line": "ready ("}}], "no regular expression: .*unterminated"),
        ([{"name": "a", "module": "m", "params": {"c": []}}], r"node a: params.c: .* cannot be \[\]"),
        ([{"name": "a", "module": "m", "params": {"g": {"l": [1, "x"]}}}], r"params.g.l: .* cannot be \[1, 'x'\]"),
        ([{"name": "a", "command": ["${port}"]}], "valid choices: headless, n"),
        ([{"name": "a", "command": ["x"], "when": "headles"}], "valid choices: headless"),
        ([{"name": "a", "command": ["x"], "when": "headless"}], "no nodes"),
        (
            [
                {"name": "a", "command": ["x"], "depends_on": ["b"]},
                {"name": "b", "command": ["x"], "depends_on": ["a"]},
            ],
            "wait for each other: a, b",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, nodes: list[dict[str, Any]], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        graph(tmp_path, nodes, args={"headless": False, "n": 1})


@pytest.mark.parametrize("content", ["", "[1]", "nodes: [", "nodes: 3", "\x00", "nodes: !!python/object:os.system {}"])
def test_files_that_are_no_graph(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError):
        read_graph(path)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("headless=maybe", "headless must be bool"),
        ("n=1.5", "n must be int"),
        ("hedless=true", "valid choices: headless, n"),
        ("headless", "key=value"),
        ("use_fake_hardware=true", "valid choices"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, override: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        graph(tmp_path, [{"name": "a", "command": ["x"]}], override, args={"headless": False, "n": 1})


def test_a_number_that_need_not_be_given_is_left_to_the_node(tmp_path: Path) -> None:
    nodes = [{"name": "a", "module": "m", "params": {"n": "${n}"}}]
    for given, wanted in ([], None), (["n=0"], "n:=0"), (["n=0.5"], "n:=0.5"):
        command = graph(tmp_path, nodes, *given, args={"n": None}).processes[0].command
        assert [one for one in command if one.startswith("n:=")] == ([] if wanted is None else [wanted])
    for wrong in ("n=", "n=many", "n=true"):
        with pytest.raises(ConfigError, match="n must be a number"):
            graph(tmp_path, nodes, wrong, args={"n": None})


def test_whole_numbers_among_others_become_ros_doubles(tmp_path: Path) -> None:
    """rcl refuses a list of both, such as a corner of a workspace with 0 in it."""
    nodes = [{"name": "a", "module": "m", "params": {"guard": {"workspace_low_m": [0.2, -0.4, 0], "n": [1, 2]}}}]
    command = graph(tmp_path, nodes).processes[0].command
    assert "guard.workspace_low_m:=[0.2, -0.4, 0.0]" in command
    assert "guard.n:=[1, 2]" in command


def test_a_domain_has_one_spelling_for_the_lock_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    config = read_graph(write(tmp_path, [{"name": "a", "command": ["x"]}]))
    for text, wanted in (("", "0"), ("07", "7"), ("232", "232")):
        assert resolve(config, {}, {"ROS_DOMAIN_ID": text}).domain_id == wanted
    for text in ("abc", "a/b", "-1", "233", "²"):
        with pytest.raises(ConfigError, match="ROS_DOMAIN_ID must be a number from 0 to 232"):
            resolve(config, {}, {"ROS_DOMAIN_ID": text})


@pytest.mark.parametrize("namespace", ["a b", "1a", "a/../b", "a;b"])
def test_bad_namespaces_are_refused(tmp_path: Path, namespace: str) -> None:
    with pytest.raises(ConfigError, match="namespace"):
        graph(tmp_path, [{"name": "a", "command": ["x"]}], f"namespace={namespace}", args={"namespace": ""})


def test_a_graph_that_extends_another_is_that_one_with_its_own_arguments(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text("{extends: arm, description: ours, args: {robot: ur5e, namespace: left}}")
    lab, arm = read_graph(path), read_graph(graph_path("arm"))
    assert (lab.name, lab.description, lab.nodes) == ("lab", "ours", arm.nodes)
    assert lab.args == {**arm.args, "robot": "ur5e", "namespace": "left"}
    path.write_text("{extends: am, args: {robot: ur5e}}")
    with pytest.raises(UnknownNameError, match="unknown graph 'am'; valid choices: arm, "):
        read_graph(path)


def test_unknown_graph_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="demo"):
        graph_path("dmeo")
    with pytest.raises(ConfigError, match=r"nope\.yaml"):
        graph_path("nope.yaml")


@pytest.mark.parametrize("name", graph_names())
@pytest.mark.parametrize("overrides", [[], ["headless=true"], ["use_sim=true", "namespace=lab"]])
def test_shipped_graphs_resolve_with_one_guard_that_outlives_and_stops_last(name: str, overrides: list[str]) -> None:
    shipped = resolve(read_graph(graph_path(name)), parse_overrides(overrides), {})
    found = names(shipped)
    assert found[0] == "guard" and shipped.processes[0].node.outlives
    assert ("gui" in found) == ("headless=true" not in overrides)
    outliving = {process.node.name for process in shipped.processes if process.node.outlives}
    assert outliving <= {"guard", "arm", "driver"}, "only what holds the arm lives on"
    if "use_sim=true" in overrides:
        assert "sim_robot" in found and "arm" not in found


@pytest.mark.parametrize("name", ["fr3", "ur5e"])
def test_nothing_arms_a_real_arm_by_itself(name: str) -> None:
    real = resolve(read_graph(graph_path(name)), {"learn": "true"}, {})
    command = next(process.command for process in real.processes if process.node.name == "actor")
    assert "world.arm_guard:=false" in command and 'world.reset:="person"' in command
    assert "runner.paused:=true" in command
    page = next(process.command for process in real.processes if process.node.name == "gui")
    assert 'reset_service:="actor_world/reset_done"' in page and 'reset_label:="Scene ready"' in page


@pytest.mark.parametrize("name", graph_names())
def test_simulated_graphs_stay_on_this_machine_and_real_ones_do_not(name: str) -> None:
    for process in resolve(read_graph(graph_path(name)), {"use_sim": "true"}, {}).processes:
        assert process.env["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    for process in resolve(read_graph(graph_path(name)), {"use_sim": "false"}, {}).processes:
        assert "ROS_AUTOMATIC_DISCOVERY_RANGE" not in process.env


@pytest.mark.parametrize("name", ["fr3", "ur5e"])
def test_a_real_arm_learns_from_its_cameras_and_the_persons_verdict(name: str) -> None:
    real = resolve(read_graph(graph_path(name)), {"learn": "true"}, {})
    commands = {process.node.name: process.command for process in real.processes}
    assert "world.task:=false" in commands["actor"]
    for node in ("actor", "learner"):
        assert 'task:="real_arm"' in commands[node] and "overrides:=[policy=gaussian_pixels]" in commands[node]
    experiment = node_experiment("real_arm", 0, ["policy=gaussian_pixels"])
    env = experiment.task.env
    assert set(env.cameras) <= commands.keys() and not env.objects and not env.scalars
    build_policy(experiment)
    simulated = resolve(read_graph(graph_path(name)), {"learn": "true", "use_sim": "true"}, {})
    tasks = {
        next((word for word in process.command if word.startswith("task:=")), "") for process in simulated.processes
    }
    assert tasks == {"", 'task:="lift"'}


def test_a_real_arm_is_deployed_on_by_a_person_with_what_is_in_service() -> None:
    real = resolve(read_graph(graph_path("deploy")), {"use_sim": "false", "robot": "fr3", "tracker": "true"}, {})
    commands = {process.node.name: process.command for process in real.processes}
    assert list(commands) == ["guard", "arm", "gui", "deploy"]
    wanted = ('policy:="in_service"', "unpromoted:=false", "world.task:=true", 'world.reset:="person"')
    assert {*wanted, "world.arm_guard:=false", "runner.paused:=true"} <= set(commands["deploy"])
    assert not any(word.startswith("use_sim") for word in commands["deploy"])
    assert 'reset_service:="deploy_world/reset_done"' in commands["gui"]
    simulated = resolve(read_graph(graph_path("deploy")), {"policy": "runs/a"}, {})
    assert not any("reset_service" in word for process in simulated.processes for word in process.command)
    (deploy,) = (process.command for process in simulated.processes if process.node.name == "deploy")
    assert {"use_sim:=true", 'policy:="runs/a"'} <= set(deploy)


def test_a_value_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="port must be int"):
        graph(tmp_path, [{"name": "a", "command": ["x"]}], "port=[", args={"port": 1})


def test_launch_file_runs_the_same_graph(tmp_path: Path) -> None:
    """With ROS's launch: starts in dependency order, ends when the required node ends."""
    # By name: this tree's launch/ folder has no such modules, and type checkers see that one.
    actions = pytest.importorskip("launch.actions", reason="ROS's launch is not installed")
    sources = importlib.import_module("launch.launch_description_sources")
    launch: Any = importlib.import_module("launch")

    order = tmp_path / "order"
    nodes = [
        {
            "name": "last",
            "command": ["sh", "-c", f"echo last >> {order}"],
            "depends_on": ["first"],
            "required": True,
        },
        {
            "name": "first",
            "command": ["sh", "-c", f"sleep 0.5; echo ${{word}} >> {order}; echo it is ready; exec sleep 60"],
            "ready": {"line": "is ready"},
        },
    ]
    path = write(tmp_path, nodes, args={"word": "x"})
    source = sources.PythonLaunchDescriptionSource(str(LAUNCH_FILE))
    arguments = [("graph", str(path)), ("overrides", "word=first")]
    service = launch.LaunchService(noninteractive=True)
    service.include_launch_description(
        launch.LaunchDescription([actions.IncludeLaunchDescription(source, launch_arguments=arguments)])
    )
    assert service.run() == 0
    assert order.read_text().split() == ["first", "last"]


@pytest.mark.parametrize("name", graph_names())
def test_a_twin_is_started_only_when_asked_for(name: str) -> None:
    config = read_graph(graph_path(name))
    assert "twin" not in names(resolve(config, {}, {}))
    for use_sim in ("true", "false"):
        assert names(resolve(config, {"twin": "true", "use_sim": use_sim}, {})).count("twin") == 1


def test_a_twin_that_leads_stands_between_policy_and_guard() -> None:
    config = read_graph(graph_path("deploy"))
    plain = next(one for one in resolve(config, {"twin": "true"}, {}).processes if one.node.name == "deploy")
    led = resolve(config, {"twin_leads": "true"}, {})  # which starts the twin
    both = resolve(config, {"twin": "true", "twin_leads": "true"}, {})
    assert [one.command for one in both.processes] == [one.command for one in led.processes]
    deploy = next(one for one in led.processes if one.node.name == "deploy")
    assert "policy/target_pose:=twin/policy/target_pose" in deploy.command
    assert "current_pose:=twin/current_pose" in deploy.command
    assert not any("target_pose:=" in word for word in plain.command)
    assert set(deploy.node.params) == set(plain.node.params)
    twin = next(one for one in led.processes if one.node.name == "twin")
    assert "leads:=true" in twin.command


@pytest.mark.parametrize("name", ["demo", "sim_lift"])
def test_the_page_speaks_in_the_tasks_actions(name: str) -> None:
    """Its axes were those of Lift, so that nobody could take over in tasks that also turn the hand."""
    page = next(
        process
        for process in resolve(read_graph(graph_path(name)), {"task": "door"}, {}).processes
        if process.node.name == "gui"
    )
    assert 'task:="door"' in page.command


def test_the_page_beside_a_policy_of_any_task_gives_all_directions() -> None:
    processes = resolve(read_graph(graph_path("deploy")), {"policy": "runs/door"}, {}).processes
    page = next(process for process in processes if process.node.name == "gui")
    assert "x, y, z, rx, ry, rz, gripper" in str(page.node.params["teleop"]).replace("'", "")


@pytest.mark.parametrize(("name", "learns"), [("sim_lift", False), ("fr3", False), ("fr3", True), ("ur5e", False)])
def test_the_arm_can_be_driven_from_the_page_without_an_actor(name: str, learns: bool) -> None:
    overrides = {"learn": "true"} if learns else {}
    present = names(resolve(read_graph(graph_path(name)), overrides, {}))
    assert ("hand" in present) == (not learns) and ("actor" in present) == learns
