"use strict";
// Adds to the page what needs a script: progress without reloading, and Try it.

const STATUS = "/account/status";
const EVERY_MS = 1500;
const WATCH_MS = 5000;

async function status() {
  const answer = await fetch(STATUS, { credentials: "same-origin", cache: "no-store" });
  if (answer.status === 401) {
    location.reload();
  }
  return answer.ok ? answer.json() : null;
}

// Unchanged text is left alone: a screen reader reads what changes.
function showText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

function showSteps(erasure) {
  const shown = document.querySelector(`.erasure[data-grant="${CSS.escape(erasure.grant)}"]`);
  if (shown === null) {
    return false;
  }
  for (const step of erasure.steps) {
    const item = shown.querySelector(`[data-step="${step.name}"]`);
    const done = step.is_done ? "yes" : "no";
    if (item.dataset.done !== done) {
      item.dataset.done = done;
    }
    showText(item.querySelector(".means"), step.means);
    showText(item.querySelector(".when"), step.detail || "pending");
  }
  if (erasure.receipt !== null) {
    const link = shown.querySelector("[data-receipt]");
    link.querySelector("a").href = `/account/receipts/${erasure.receipt}.tlog-proof`;
    link.hidden = false;
    shown.querySelector("[data-no-receipt]").hidden = true;
  }
  const bar = shown.querySelector("progress");
  if (bar !== null && erasure.objects) {
    bar.max = erasure.objects;
    bar.value = erasure.objects - erasure.left;
  }
  return true;
}

// The state in this page is that of the ledger: a page that finds another one is loaded again.
function watch(card) {
  const follows = document.querySelector("[data-progress]") !== null;
  const look = async () => {
    if (!document.hidden) {
      const now = await status().catch(() => null);
      if (now !== null) {
        const isOther = now.state !== card.dataset.state;
        const isNew = now.state === "off" && now.erasures.length > 0 && !showSteps(now.erasures[0]);
        if (isOther || isNew || (follows && now.finished)) {
          location.reload();
          return;
        }
      }
    }
    setTimeout(look, follows ? EVERY_MS : WATCH_MS);
  };
  setTimeout(look, follows ? EVERY_MS : WATCH_MS);
  document.addEventListener("visibilitychange", async () => {
    const now = document.hidden ? null : await status().catch(() => null);
    if (now !== null && now.state !== card.dataset.state) {
      location.reload();
    }
  });
}

function enableTrying(form) {
  const input = form.querySelector("input[type=file]");
  const drop = form.querySelector(".drop");
  const text = form.querySelector(".try-status");
  const bar = form.querySelector(".try-progress");
  const compare = form.querySelector(".compare");
  const actions = form.querySelector(".actions");
  const download = form.querySelector(".download");
  const urls = [];

  async function send(photo) {
    urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
    compare.hidden = true;
    actions.hidden = true;
    bar.hidden = false;
    text.textContent = "Cutting out…";
    const body = new FormData();
    body.append("image_file", photo);
    const headers = { "X-CSRF-Token": form.dataset.csrf };
    try {
      const answer = await fetch(form.action, { method: "POST", body, headers });
      if (!answer.ok) {
        const found = await answer.json();
        throw new Error(found.error.message);
      }
      const cutout = await answer.blob();
      urls.push(URL.createObjectURL(photo), URL.createObjectURL(cutout));
      form.querySelector(".before").src = urls[0];
      form.querySelector(".after").src = urls[1];
      download.href = urls[1];
      compare.hidden = false;
      actions.hidden = false;
      text.textContent = "Done.";
    } catch (error) {
      text.textContent = error.message || "That did not work: try again.";
    } finally {
      bar.hidden = true;
    }
  }

  input.addEventListener("change", () => input.files.length && send(input.files[0]));
  form.addEventListener("submit", (event) => event.preventDefault());
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.dataset.over = "";
  });
  drop.addEventListener("dragleave", () => delete drop.dataset.over);
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    delete drop.dataset.over;
    if (event.dataTransfer.files.length) {
      send(event.dataTransfer.files[0]);
    }
  });
}

function enableCopying(button) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

function enableOpening(link) {
  link.addEventListener("click", () => {
    document.querySelector(link.hash).open = true;
  });
}

// Marks the section that is read, in the list of sections.
function enableSections(nav) {
  const links = [...nav.querySelectorAll("a")];
  const sections = links.map((link) => document.querySelector(link.hash));
  const mark = () => {
    const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    const above = sections.filter((each) => each.getBoundingClientRect().top < innerHeight / 3);
    const current = sections.indexOf(atEnd ? sections.at(-1) : (above.at(-1) ?? sections[0]));
    links.forEach((link, n) =>
      n === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current"),
    );
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
}

document.querySelectorAll("[data-watch]").forEach(watch);
document.querySelectorAll(".sections").forEach(enableSections);
document.querySelectorAll(".try").forEach(enableTrying);
document.querySelectorAll(".copy").forEach(enableCopying);
document.querySelectorAll('a[href="#verify"]').forEach(enableOpening);
