"""The page in headless Chromium against the real node and a fake robot over DDS."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image as PillowImage

pytest.importorskip("playwright", reason="playwright drives the browser in this test")
from playwright.sync_api import Browser, Page, sync_playwright

from hardware.gui.config import GuiConfig
from hardware.gui.scene import camera_view
from robot_rl import frames
from robot_rl.typed import to_dataclass
from tests.hardware.gui_rig import COLORS, TCP, FakeRobot

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt install chromium)"),
]

WIDTH, HEIGHT, SCALE = 1280, 800, 0.5  # drawn at half the resolution: software rendering is slow
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
START_S = 120.0  # a software renderer on two busy cores
DEAD_MAN_S = 6.0
CONFIG = {
    "robot": "sim_panda",
    # Patient, since a software renderer on a busy machine lets the page's heartbeat falter.
    "teleop": {"action": ["x", "y", "z", "gripper"], "dead_man_s": DEAD_MAN_S, "tcp_timeout_s": 5.0},
    "end_episode_service": "",
    "scene_rate_hz": 5.0,
    "workspace_low_m": [0.3, -0.3, 0.0],
    "workspace_high_m": [0.8, 0.3, 0.5],
}


LEFT, MIDDLE = slice(0, 294), slice(300, 980)
IMAGES, CURVES, SCENE = slice(50, 430), slice(490, 790), slice(50, 750)


def wait_for(what: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def robot() -> Iterator[FakeRobot]:
    fake = FakeRobot()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def url(robot: FakeRobot) -> Iterator[str]:
    """Address of a running GUI node."""
    command = [sys.executable, "-m", "hardware.nodes.gui", "--port", "0", "--config", json.dumps(CONFIG)]
    node = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert node.stderr is not None
    lines: list[str] = []
    found: list[str] = []
    for line in node.stderr:
        lines.append(line)
        if match := re.search(r"open (http://\S+)", line):
            found.append(match.group(1))
            break
    threading.Thread(target=lambda: lines.extend(node.stderr or ()), daemon=True).start()
    assert found, "".join(lines)
    yield found[0]
    node.send_signal(signal.SIGINT)
    assert node.wait(timeout=20) == 0, "".join(lines)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page(browser: Browser, url: str, robot: FakeRobot) -> Iterator[Page]:
    opened = open_page(browser, url, robot)
    yield opened
    opened.close()


def open_page(browser: Browser, url: str, robot: FakeRobot) -> Page:
    opened = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=SCALE)
    opened.goto(url)
    opened.wait_for_selector("text=Take over", timeout=1000 * START_S)
    wait_for(lambda: robot.has_page)
    opened.wait_for_selector("#rl-banner[data-state=policy]", timeout=1000 * START_S)
    return opened


def pixels(page: Page, x: slice, y: slice) -> np.ndarray:
    """Part of the page (h, w, 3) between CSS coordinates."""
    data = page.screenshot(
        clip={"x": x.start, "y": y.start, "width": x.stop - x.start, "height": y.stop - y.start},
        timeout=1000 * START_S,
    )
    return np.array(PillowImage.open(io.BytesIO(data)).convert("RGB")).astype(int)


def close_to(image: np.ndarray, color: tuple[int, int, int], tolerance: int = 25) -> int:
    """Number of pixels within `tolerance` of `color`."""
    return int((np.abs(image - color).max(axis=-1) < tolerance).sum())


def engaged(robot: FakeRobot) -> list[list[float]]:
    return [axes for _, button, axes in robot.log.joy if button]


def is_released(robot: FakeRobot) -> bool:
    return bool(robot.log.joy) and robot.log.joy[-1][1] == 0


def test_arm_and_images_appear(page: Page) -> None:
    for color in COLORS.values():
        wait_for(lambda color=color: close_to(pixels(page, LEFT, IMAGES), color) > 3000, START_S)

    def shells() -> int:
        return int((pixels(page, MIDDLE, SCENE).min(axis=-1) > 150).sum())

    wait_for(lambda: shells() > 4000, START_S)
    scene = pixels(page, MIDDLE, SCENE)
    assert int((scene[..., 2] - scene[..., 0] > 25).sum()) > 150  # the workspace's edges, the gizmo
    assert int(((scene[..., 0] > 150) & (scene[..., 1] < 120) & (scene[..., 2] < 110)).sum()) > 50  # the cube


def test_the_banner_says_who_is_in_control(page: Page, robot: FakeRobot) -> None:
    assert page.inner_text("#rl-banner .title") == "POLICY"
    robot.guard = {"armed": "false", "source": "hold", "reason": "requested", "mode": "disarmed"}
    try:
        page.wait_for_selector("#rl-banner[data-state=disarmed]", timeout=10000)
        assert page.inner_text("#rl-banner .title") == "DISARMED"
        assert page.inner_text("#rl-banner .detail") == "requested"
    finally:
        robot.guard = {"armed": "true", "source": "policy", "reason": "armed", "mode": "armed"}
    page.wait_for_selector("#rl-banner[data-state=policy]", timeout=10000)


@pytest.mark.parametrize(("key", "axis", "sign"), [("w", 1, 1), ("s", 1, -1), ("a", 0, 1), ("e", 2, -1)])
def test_a_held_key_steers_and_its_release_gives_back(
    page: Page, robot: FakeRobot, key: str, axis: int, sign: int
) -> None:
    robot.log.joy.clear()
    page.keyboard.down(key)
    wait_for(lambda: len(engaged(robot)) >= 10)
    page.keyboard.up(key)
    wait_for(lambda: is_released(robot))
    moving = [axes for axes in engaged(robot) if any(axes)]
    assert len(moving) >= 5
    for axes in moving:
        assert axes[axis] == pytest.approx(0.6 * sign, abs=1e-5)
        assert [value for index, value in enumerate(axes) if index != axis] == pytest.approx([0, 0, 0], abs=1e-5)
    rate = np.diff([when for when, button, _ in robot.log.joy if button])
    assert np.median(rate) == pytest.approx(0.05, abs=0.02)
    time.sleep(0.3)
    assert sum(button == 0 for _, button, _ in robot.log.joy) == 1, "one release message, then silence"


def test_keys_typed_with_ctrl_do_nothing(page: Page, robot: FakeRobot) -> None:
    robot.log.joy.clear()
    before = pixels(page, MIDDLE, SCENE)
    page.keyboard.press("Control+s", delay=300)
    time.sleep(0.5)
    assert robot.log.joy == []
    moved = np.abs(pixels(page, MIDDLE, SCENE) - before).max(axis=-1) > 40
    assert moved.mean() < 0.01, "the point of view moved"


def test_take_over_stays_engaged_and_space_closes_the_gripper(page: Page, robot: FakeRobot) -> None:
    robot.gripper_target = 1.0
    robot.log.joy.clear()
    page.keyboard.press("t")
    wait_for(lambda: len(engaged(robot)) >= 20)
    assert not np.any(engaged(robot))
    page.keyboard.press("Space")
    wait_for(lambda: bool(engaged(robot)) and engaged(robot)[-1][3] == -1.0)
    robot.gripper_target = 0.0
    wait_for(lambda: engaged(robot)[-1][3] == 0.0)
    page.get_by_role("button", name="Open / close gripper").click()
    wait_for(lambda: engaged(robot)[-1][3] == 1.0)
    robot.gripper_target = 1.0
    wait_for(lambda: engaged(robot)[-1][3] == 0.0)
    assert all(button for _, button, _ in robot.log.joy), "never let go in between"
    page.get_by_role("button", name="Take over / give back").click()
    wait_for(lambda: is_released(robot))


def on_screen(page: Page, point: np.ndarray) -> tuple[float, float]:
    """Where a point of the base frame is drawn, from the page's first point of view."""
    look_at, eye, fov = camera_view(to_dataclass(GuiConfig, CONFIG, "test"))
    sizes = page.locator("canvas").evaluate_all("all => all.map(c => c.getBoundingClientRect().toJSON())")
    box = max(sizes, key=lambda rect: rect["width"] * rect["height"])
    forward = (look_at - eye) / np.linalg.norm(look_at - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    seen = np.array([right @ (point - eye), up @ (point - eye), forward @ (point - eye)])
    scale = box["height"] / 2 / np.tan(fov / 2) / seen[2]
    return box["x"] + box["width"] / 2 + scale * seen[0], box["y"] + box["height"] / 2 - scale * seen[1]


def grab(page: Page, robot: FakeRobot, at: tuple[float, float]) -> None:
    """Press the gizmo's arrow; tried anew until it answers, since a slow page notices the pointer late."""
    for _ in range(5):
        page.mouse.move(at[0] - 3, at[1] - 3)
        page.mouse.move(*at)
        time.sleep(0.5)
        page.mouse.down()
        deadline = time.monotonic() + 4.0
        while time.monotonic() < deadline:
            if engaged(robot):
                return
            time.sleep(0.05)
        page.mouse.up()
    pytest.fail("the gizmo could not be grabbed")


def test_dragging_the_gizmo_steers_towards_it(page: Page, robot: FakeRobot) -> None:
    along = frames.quat_to_matrix(TCP[3:])[:, 1]  # TCP y, which is base x
    start, end = (np.array(on_screen(page, TCP[:3] + along * reach)) for reach in (0.12, 0.30))
    robot.log.joy.clear()
    grab(page, robot, (float(start[0]), float(start[1])))
    assert engaged(robot)[0] == pytest.approx([0, 0, 0, 0], abs=1e-3)
    for share in (0.2, 0.6, 1.0):
        page.mouse.move(*(start + share * (end - start)))
    wait_for(lambda: engaged(robot)[-1][1] > 0.9)
    held = len(engaged(robot))
    wait_for(lambda: len(engaged(robot)) > held + 10)  # still held, though the pointer rests
    page.mouse.up()
    wait_for(lambda: is_released(robot))
    assert engaged(robot)[-1] == pytest.approx([0.0, 1.0, 0.0, 0.0], abs=0.02)


def test_buttons_call_services_and_give_verdicts(page: Page, robot: FakeRobot) -> None:
    robot.log.calls.clear()
    for label, service in (
        ("Arm", "guard/arm"),
        ("Disarm", "guard/disarm"),
        ("Recover from fault", "guard/recover"),
    ):
        page.get_by_role("button", name=label, exact=True).click()
        wait_for(lambda service=service: robot.log.calls[-1:] == [service])
        page.wait_for_selector(f"text={service} answered", timeout=10000)
    robot.announce("run")
    page.wait_for_timeout(500)
    for label in ("Success", "Failure", "Discard"):
        page.get_by_role("button", name=label, exact=True).click()
        wait_for(lambda label=label: robot.log.verdicts[-1:] == [label.lower()])
    assert robot.log.verdicts == ["success", "failure", "discard"]
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_selector("text=there is no service actor/start_episode now", timeout=10000)
    assert page.get_by_role("button", name="End", exact=True).count() == 0


def test_what_would_have_no_effect_or_cause_a_fault_is_said_and_not_done(page: Page, robot: FakeRobot) -> None:
    robot.log.verdicts.clear()
    robot.log.calls.clear()
    robot.announce("idle")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Success", exact=True).click()
    page.wait_for_selector("text=success: no episode is under way", timeout=10000)
    page.get_by_role("button", name="Reset", exact=True).click()  # the simulated arm would jump under the guard
    page.wait_for_selector("text=Reset: the arm is armed; disarm it first", timeout=10000)
    assert robot.log.verdicts == [] and robot.log.calls == []
    robot.guard = {"armed": "false", "source": "hold", "reason": "requested", "mode": "disarmed"}
    try:
        page.wait_for_selector("#rl-banner[data-state=disarmed]", timeout=10000)
        page.get_by_role("button", name="Reset", exact=True).click()
        page.wait_for_selector("text=reset_world answered", timeout=10000)
    finally:
        robot.guard = {"armed": "true", "source": "policy", "reason": "armed", "mode": "armed"}
    page.wait_for_selector("#rl-banner[data-state=policy]", timeout=10000)


def test_curves_and_figures_follow_the_episodes(page: Page, robot: FakeRobot) -> None:
    def green() -> int:
        shown = pixels(page, LEFT, CURVES)
        return int(((shown[..., 1] - shown[..., 0] > 25) & (shown[..., 1] - shown[..., 2] > 25)).sum())

    page.wait_for_selector("text=no episodes yet", timeout=10000)
    assert green() == 0
    for number in range(1, 31):
        robot.finish_episode(number)
    page.wait_for_selector("text=learn · episode 30 · policy v30", timeout=20000)
    page.wait_for_selector("text=success, 20 steps", timeout=20000)
    wait_for(lambda: green() > 25)


def test_a_frozen_page_loses_control_within_the_dead_mans_time(page: Page, robot: FakeRobot) -> None:
    robot.log.joy.clear()
    page.keyboard.down("w")
    wait_for(lambda: len(engaged(robot)) >= 5)
    frozen = time.monotonic()
    page.evaluate("() => { const end = performance.now() + 9000; while (performance.now() < end); }")
    page.keyboard.up("w")
    released = next(when for when, button, _ in robot.log.joy if not button)
    assert DEAD_MAN_S - 1.0 < released - frozen < 8.5


def test_closing_the_tab_releases_and_stops_the_traffic(
    browser: Browser, page: Page, url: str, robot: FakeRobot
) -> None:
    second = open_page(browser, url, robot)
    robot.log.joy.clear()
    second.keyboard.press("t")
    wait_for(lambda: len(engaged(robot)) >= 5)
    second.wait_for_selector("#rl-banner .detail:text-is('taken over, T gives back')", timeout=10000)
    page.wait_for_selector("#rl-banner .detail:text-is('another page is in control')", timeout=10000)
    closed = time.monotonic()
    second.close()
    wait_for(lambda: is_released(robot))
    assert robot.log.joy[-1][0] - closed < 3.0
    page.close()
    wait_for(lambda: not robot.has_page)
