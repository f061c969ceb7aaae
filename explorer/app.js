"use strict";
// The page: it is built once, and shown again whenever the state changes.

const DRAW = { picture: drawPicture, tokens: drawTokens, attention: drawAttention, intervene: drawIntervene, prediction: drawPrediction };
const OWN_KEY = "explorer-picture"; // the reader's picture, kept in this tab for a reload

/** Show the state. The result is kept for what is asked of it later, such as one pair of tokens. */
function show() {
  const model = currentModel(), found = (show.found = result());
  if (state.screen !== "intervene") swapFirst = null;
  find("#model").value = state.model;
  find("#about").textContent = aboutModel(model);
  find("#parameters").textContent = model.parameters.reduce((sum, [, size]) => sum + size, 0).toLocaleString("en");
  for (const link of document.querySelectorAll("#screens a")) {
    const here = link.dataset.screen === (state.tour ? "tour" : state.screen);
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const section of document.querySelectorAll("[data-screen]"))
    if (section.tagName === "SECTION") section.hidden = section.dataset.screen !== state.screen;
  drawTour();
  drawStage(found);
  DRAW[state.screen](found);
}

/** What a model has seen, and how often it is right. */
function aboutModel({ seen, results, class_names: names }) {
  const { train_images: trained, test_images: tested, test_accuracy: accuracy } = results;
  const count = trained ? `${trained.toLocaleString("en")} ` : "";
  const right = accuracy ? ` On ${tested.toLocaleString("en")} test pictures it is right ${percent(accuracy)} of the time.` : "";
  return `A trained model that runs in this page, on your machine. It has seen ${count}${seen}, and nothing else; `
    + `of any picture it can only say which of its ${names.length} classes it looks like.${right}`;
}

/** Redraw buttons, and give the focus back to the one that had it. */
function keepingFocus(attribute, redraw) {
  const key = document.activeElement?.getAttribute(attribute);
  redraw();
  if (key) find(`[${attribute}="${key}"]`)?.focus();
}

function say(message) {
  find("#message").textContent = message;
  find("#message").hidden = !message;
}

// ---------------------------------------------------------------------------------------------
// The reader's own picture

async function openPicture(blob) {
  try {
    own = { name: "own", text: "your picture", ...(await readPicture(blob)) };
  } catch {
    const name = blob.name ? `“${blob.name}”` : "what you gave";
    return say(`${name} can’t be read as a picture. Open a JPEG, PNG, WebP or GIF; a photo in another format, such as HEIC, has to be saved as JPEG first.`);
  }
  say("");
  remember(own.canvas);
  change({ screen: "picture", picture: "own" });
}

/** Keep the picture in this tab, so that a reload shows it again; browsers may refuse. */
function remember(canvas) {
  try {
    sessionStorage.setItem(OWN_KEY, canvas.toDataURL("image/png"));
  } catch {
    sessionStorage.removeItem(OWN_KEY); // too large: after a reload a picture of ours stands there
  }
}

async function recall() {
  const kept = sessionStorage.getItem(OWN_KEY);
  if (!kept) return;
  own = { name: "own", text: "your picture", ...(await readPicture(await toBlob(kept))) };
}

async function toBlob(dataUrl) {
  const [head, content] = dataUrl.split(",");
  return new Blob([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], { type: head.slice(5).split(";")[0] });
}

async function useCamera() {
  const dialog = find("#camera-dialog"), video = dialog.querySelector("video");
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    return say("The camera can’t be used: there is none, or the browser does not allow it. Take a photo, and open it as a file.");
  }
  await video.play();
  dialog.showModal();
}

function watchPictures() {
  find("#file").addEventListener("change", ({ target }) => {
    if (target.files[0]) openPicture(target.files[0]);
    target.value = ""; // so that the same file can be opened again
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) openPicture(file);
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData.files.length) openPicture(clipboardData.files[0]);
    else say("There is no picture in the clipboard.");
  });
  const dialog = find("#camera-dialog"), video = dialog.querySelector("video");
  find("#camera").addEventListener("click", useCamera);
  find("#camera-close").addEventListener("click", () => dialog.close());
  find("#shoot").addEventListener("click", () => {
    const { canvas } = readPixels(video, video.videoWidth, video.videoHeight);
    dialog.close();
    canvas.toBlob(openPicture);
  });
  dialog.addEventListener("close", () => video.srcObject.getTracks().forEach((track) => track.stop()));
}

// ---------------------------------------------------------------------------------------------
// Start

function buildNavigation() {
  const names = [...SCREENS, "tour"];
  find("#screens").replaceChildren(...names.map((screen, i) => element("li", {}, element("a", {
    href: `#screen=${screen}`, "data-screen": screen,
    onclick: (event) => {
      event.preventDefault();
      if (screen === "tour") goTo(1);
      else change({ screen, tour: 0 });
    },
  }, element("span", { "aria-hidden": "true" }, `${i + 1}`), ` ${screen[0].toUpperCase()}${screen.slice(1)}`))));
}

async function start() {
  await Promise.all(PICTURES.map(async (picture) => {
    picture.url = `data:image/webp;base64,${picture.data}`;
    Object.assign(picture, await readPicture(await toBlob(picture.url)));
  }));
  find("#model").replaceChildren(...MODELS.map(({ name, title }) => element("option", { value: name }, title)));
  find("#model").addEventListener("change", ({ target }) => {
    change({ ...defaults([...INTERVENTIONS, "token", "map"]), model: target.value });
    past.length = 0;
  });
  find("#model-choice").hidden = MODELS.length < 2;
  find("#credits").textContent = `Pictures: drawn by the project, and ${PICTURES.map(({ text }) => text).filter((t) => t.startsWith("photo")).join("; ")}.`;
  buildNavigation();
  buildGallery();
  watchStage();
  watchPictures();
  watchIntervene();
  for (const id of ["#maps", "#rollouts"]) {
    find(id).addEventListener("click", ({ target }) => {
      const map = target.closest("[data-map]")?.dataset.map;
      if (map) change({ map });
    });
  }
  window.addEventListener("popstate", () => { Object.assign(state, readAddress()); show(); });
  if (state.picture === "own") await recall();
  if (state.picture === "own" && !own) {
    say("Your picture is not part of the address, it never leaves your machine: open it again.");
    state.picture = PICTURES[0].name;
  }
  show();
  document.documentElement.dataset.ready = "yes";
}

start();
