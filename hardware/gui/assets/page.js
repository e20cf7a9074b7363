// Added in front of viser's page: banner, keys and heartbeat. Talks JSON to `/input` of the same server.
(() => {
  "use strict";
  const page = crypto.getRandomValues(new Uint32Array(2)).join("-");
  const base = location.origin.replace(/^http/, "ws");
  // viser's client connects to what the address bar says; the page's number ties both sockets together.
  history.replaceState(null, "", "/?websocket=" + base + "/viser?page=" + page);

  const HELD = { KeyW: "w", KeyS: "s", KeyA: "a", KeyD: "d", KeyQ: "q", KeyE: "e", KeyI: "i", KeyK: "k",
                 KeyJ: "j", KeyL: "l", KeyU: "u", KeyO: "o", ShiftLeft: "shift", ShiftRight: "shift" };
  const PRESSED = { Space: "gripper", KeyT: "take_over" };
  const HEARTBEAT_MS = 200;
  const held = new Set();
  let socket = null;

  const send = (press) => {
    if (socket === null || socket.readyState !== WebSocket.OPEN) return;
    socket.send(JSON.stringify({ keys: [...held], press: press || null, hidden: document.hidden }));
  };
  const letGo = () => { held.clear(); send(); };
  const typing = (target) =>
    target instanceof Element && target.closest("input:not([type=checkbox]), textarea, [contenteditable=true]");

  // Capturing on window comes before viser's own listeners, which would fly the camera with the same keys.
  window.addEventListener("keydown", (event) => {
    const key = HELD[event.code], press = PRESSED[event.code];
    if ((!key && !press) || typing(event.target)) return;
    if (key !== "shift") event.stopImmediatePropagation();
    if (event.ctrlKey || event.metaKey || event.altKey) return;  // the browser's, as Ctrl+S
    if (key !== "shift") event.preventDefault();
    if (event.repeat) return;
    if (key) held.add(key);
    send(press);
  }, true);
  window.addEventListener("keyup", (event) => {
    const key = HELD[event.code];
    if (PRESSED[event.code] && !typing(event.target)) event.preventDefault();
    if (key && held.delete(key)) send();
  }, true);
  window.addEventListener("blur", letGo);
  document.addEventListener("visibilitychange", letGo);
  setInterval(() => send(), HEARTBEAT_MS);

  const style = document.createElement("style");
  style.textContent = `
    #rl-banner { position: fixed; inset: 0 0 auto 0; height: 46px; z-index: 1000; display: flex;
      align-items: center; gap: 14px; padding: 0 18px; color: #fff; background: #3b3f46;
      font: 600 19px/1 Inter, system-ui, sans-serif; letter-spacing: .02em; transition: background .15s; }
    #rl-banner .detail { font-weight: 400; font-size: 14px; opacity: .92; letter-spacing: 0; }
    #rl-banner .right { margin-left: auto; font-weight: 400; font-size: 13px; opacity: .92; white-space: nowrap;
      letter-spacing: 0; font-variant-numeric: tabular-nums; }
    #rl-banner .dot { width: 13px; height: 13px; border-radius: 50%; background: rgba(255,255,255,.92); }
    #rl-keys { position: fixed; bottom: 10px; left: 50%; transform: translateX(-50%); z-index: 900;
      pointer-events: none; color: #c9ced6; background: rgba(22,24,28,.78); border-radius: 8px; padding: 7px 12px;
      font: 12px/1.5 Inter, system-ui, sans-serif; text-align: center; white-space: nowrap; }
    #rl-keys b { color: #fff; font-weight: 600; background: #363b44; border-radius: 4px; padding: 1px 5px; }
    body { background: #16181c; }
    #root { position: absolute !important; top: 46px; height: calc(100% - 46px) !important; }`;
  document.head.append(style);

  const banner = document.createElement("div");
  banner.id = "rl-banner";
  const parts = {};
  for (const name of ["dot", "title", "detail", "right"]) {
    parts[name] = document.createElement("span");
    parts[name].className = name;
    banner.append(parts[name]);
  }
  const keys = document.createElement("div");
  keys.id = "rl-keys";
  const help = [["W A S D", "move"], ["Q E", "down, up"], ["Space", "gripper"], ["T", "take over"], ["Shift", "fine"]];
  for (const [name, what] of help) {
    const label = document.createElement("b");
    label.textContent = name;
    keys.append(label, " " + what + "\u2003");
  }
  const show = (state) => {
    parts.title.textContent = state.title;
    parts.detail.textContent = state.page && state.page !== page ? "another page is in control" : state.detail;
    parts.right.textContent = state.right;
    banner.style.background = state.color;
    banner.dataset.state = state.state;
  };
  const cut = () => show({ title: "NO CONNECTION", detail: "the page has lost its server; nothing here has effect",
                           right: "", color: "#6b2020", state: "cut" });
  const connect = () => {
    socket = new WebSocket(base + "/input?page=" + page);
    socket.onopen = () => send();
    socket.onmessage = (event) => show(JSON.parse(event.data));
    socket.onclose = () => { cut(); setTimeout(connect, 1000); };
  };
  document.addEventListener("DOMContentLoaded", () => {
    document.title = "robot-rl";
    document.body.append(banner, keys);
    cut();
    connect();
  });
})();
