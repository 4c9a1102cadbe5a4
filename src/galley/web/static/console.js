// Live updates for the console. Everything else on the pages works without this file.
"use strict";

const LOG_LINES_KEPT = 5000;
const REFRESH_PAUSE_MS = 400;

function durationText(seconds) {
  if (seconds < 1) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (n) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor((whole % 86400) / 3600))} h`;
}

// Durations of what is running count on. The server's clock decides, not this machine's.
let serverAheadMs = 0;
let isLost = false;
function tick() {
  if (isLost) return;
  const now = Date.now() + serverAheadMs;
  for (const element of document.querySelectorAll("[data-since]")) {
    const seconds = Math.max(0, (now - Date.parse(element.dataset.since)) / 1000);
    element.textContent = durationText(seconds);
  }
}

// A refresh asks the page's own address again; bursts of changes become one question.
function refresher(element) {
  let planned = 0;
  return () => {
    if (planned) return;
    planned = setTimeout(() => {
      planned = 0;
      element.dispatchEvent(new CustomEvent("refresh"));
    }, REFRESH_PAUSE_MS);
  };
}

function isAtEnd(box) {
  return box.scrollHeight - box.scrollTop - box.clientHeight < 24;
}

function logBox() {
  const box = document.getElementById("log-lines");
  const follow = document.getElementById("follow");
  if (!box || !follow) return null;
  document.getElementById("follow-label").hidden = false;
  const toEnd = () => { box.scrollTop = box.scrollHeight; };
  toEnd();
  box.addEventListener("scroll", () => { follow.checked = isAtEnd(box); }, { passive: true });
  follow.addEventListener("change", () => { if (follow.checked) toEnd(); });
  return (html) => {
    box.querySelector(".log-empty")?.remove();
    const following = follow.checked;
    box.insertAdjacentHTML("beforeend", html); // escaped by the server's templates
    while (box.childElementCount > LOG_LINES_KEPT) box.firstElementChild.remove();
    if (following) toEnd();
  };
}

// While the server does not answer, the page says so and stands still: it does not know any more.
const LOST_GRACE_MS = 1000;
function lossNote() {
  const note = document.getElementById("lost-note");
  let planned = 0;
  let lostAt = "";
  const show = (text) => {
    isLost = text !== "";
    document.body.classList.toggle("is-lost", isLost);
    if (!note) return;
    note.textContent = text;
    note.hidden = !isLost;
  };
  return {
    heard() {
      clearTimeout(planned);
      lostAt = "";
      if (isLost) show("");
    },
    lost(isForGood) {
      lostAt ||= new Date(Date.now() + serverAheadMs).toISOString().slice(11, 19);
      const since = ` This page shows what was at ${lostAt}.`;
      clearTimeout(planned);
      planned = setTimeout(show, isLost || isForGood ? 0 : LOST_GRACE_MS, isForGood
        ? `Live updates have stopped. Load the page again to go on.${since}`
        : `Connection lost, trying again.${since}`);
    },
    done() { clearTimeout(planned); show(""); },
  };
}

function listen() {
  const element = document.querySelector("[data-live]");
  if (!element) return;
  const mark = () => document.getElementById("live-mark");
  const refresh = refresher(element);
  const addLines = logBox();
  const address = new URL(element.dataset.live, location.href);
  const cursor = document.getElementById("log-lines")?.dataset.cursor;
  if (cursor) address.searchParams.set("after", cursor);
  const loss = lossNote();
  const source = new EventSource(address);
  source.addEventListener("hello", (event) => {
    serverAheadMs = Date.parse(event.data) - Date.now();
    loss.heard();
    if (mark()) mark().hidden = false;
  });
  source.addEventListener("change", refresh);
  source.addEventListener("log", (event) => addLines?.(event.data));
  source.addEventListener("end", () => {
    source.close();
    loss.done();
    refresh();
    if (mark()) mark().hidden = true;
  });
  source.addEventListener("error", () => {
    if (mark()) mark().hidden = true;
    loss.lost(source.readyState === EventSource.CLOSED);
  });
  document.addEventListener("htmx:after:swap", () => {
    if (mark()) mark().hidden = source.readyState !== EventSource.OPEN;
    const title = document.querySelector("[data-title]")?.dataset.title;
    if (title) document.title = `${title} \u00b7 Galley`;
  });
  addEventListener("pagehide", () => {
    source.close();
    loss.done();
  });
}

function filterLogAtOnce() {
  const form = document.getElementById("log-filters");
  if (!form) return;
  document.getElementById("log-apply").hidden = true;
  form.addEventListener("change", () => form.requestSubmit());
}

function copyButtons() {
  if (!navigator.clipboard) return;
  document.documentElement.classList.add("can-copy");
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

// The log of a run that failed opens where it went wrong, not at its peaceful beginning.
function openLog() {
  const box = document.getElementById("log-lines");
  if (box?.dataset.open !== "bad" || location.hash === "#first-error") return;
  const line = document.getElementById("first-error");
  const middle = line && line.offsetTop - box.offsetTop - box.clientHeight / 3;
  box.scrollTop = line ? middle : box.scrollHeight;
}

// What is wider than its place fades out at that side.
function markWide() {
  for (const box of document.querySelectorAll(".graph-scroll, .table-scroll")) {
    box.classList.toggle("more-before", box.scrollLeft > 2);
    box.classList.toggle("more-after", box.scrollWidth - box.clientWidth - box.scrollLeft > 2);
  }
}

// A question that is open closes on Escape and on a click elsewhere.
function closeQuestions(event) {
  if (event.type === "keydown" && event.key !== "Escape") return;
  for (const open of document.querySelectorAll("details.ask[open]")) {
    if (event.type === "click" && open.contains(event.target)) continue;
    open.open = false;
    if (event.type === "keydown") open.querySelector("summary").focus();
  }
}

listen();
openLog();
filterLogAtOnce();
markWide();
addEventListener("resize", markWide);
document.addEventListener("scroll", markWide, { capture: true, passive: true });
document.addEventListener("htmx:after:swap", markWide);
copyButtons();
setInterval(tick, 1000);
document.addEventListener("keydown", closeQuestions);
document.addEventListener("click", closeQuestions);
