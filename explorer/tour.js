"use strict";
// The guided tour: eight steps, each a view of the explorer and what to look at in it.

function tourOf({ settings }) {
  const last = settings.num_layers - 1, grid = settings.image_size / settings.patch_size;
  const middle = 1 + (grid >> 1) * grid + (grid >> 1), corner = 1 + grid + 1; // tokens of patches
  return [
    { title: "A picture is cut up", screen: "picture",
      text: "A Vision Transformer reads a picture as a sentence of patches. The small square is all that this model sees. Choose other pictures, and ask yourself whether you would still know the dish." },
    { title: "A patch is a vector", screen: "tokens", token: middle,
      text: "The pixels of a patch go through one matrix and become a token. Click on patches of the background and of the dish, and compare the strips." },
    { title: "A place is a vector, too", screen: "tokens", token: corner,
      text: "To each token its position is added. Look at the map of similarities below: the model had to learn from pictures alone which places are neighbours." },
    { title: "A head looks", screen: "attention", map: "0.0", token: middle,
      text: "Each token asks all tokens, and gets a mixture of what they hold. Move over the picture: the box with the equation shows how a score becomes a share." },
    { title: "The class token collects", screen: "attention", map: `${last}.mean`, token: 0,
      text: "The class token belongs to no patch. It collects what the head needs for its answer. Compare the first layer's maps with the last one's." },
    { title: "Is attention cause?", screen: "intervene", measured: true, hidden: [],
      text: "Where a model attends need not be what decides. The curves remove the patches that it attends to most, and least; of the two maps below them, one shows attention and the other what each patch is worth. How alike are they, and on another picture?" },
    { title: "Which part matters?", screen: "intervene", off: new Set([`layer${last}.head0`]),
      text: "One head of the last layer is off. Switch others off, then a whole layer. Which part carries this answer? Is it the same one on another picture?" },
    { title: "The answer grows", screen: "prediction",
      text: "The head can be asked after every layer. Look where the answer appears. Then three questions for you:",
      questions: [
        ["Shuffle the patches, with positions and without. What changes, and why?",
          "Without positions the encoder treats tokens as a set: any order gives the same logits, to the last digit but rounding. With positions the patches come to wrong places, and the answer may change; how little it does shows how much the model reads textures alone."],
        ["Hide everything but four patches. Which four keep the answer?",
          "Hide four and press Invert. On some pictures the four most attended patches keep the answer nearly whole, on others they lose it: at their right ends, the curves of step 6 show what is left."],
        ["A head attends strongly to a patch, and removing that patch changes nothing. How can that be?",
          "The share says how much of the patch's value is mixed in, not what is done with it: the value may be small, later layers may ignore it, and other patches may hold the same information."],
      ] },
  ];
}

function drawTour() {
  const box = find("#tour"), step = tourOf(currentModel())[state.tour - 1];
  box.hidden = !step;
  if (!step) return box.replaceChildren();
  if (box.dataset.step === String(state.tour) && box.children.length) return;
  box.dataset.step = state.tour;
  const go = (to, caption, quiet) => element("button", { type: "button", class: quiet ? "quiet" : "primary", onclick: () => goTo(to) }, caption);
  box.replaceChildren(
    element("p", { class: "label" }, `Tour, step ${state.tour} of ${TOUR_STEPS}`),
    element("h2", { tabindex: -1 }, step.title), element("p", {}, step.text),
    ...(step.questions ?? []).map(([question, answer]) => element("details", {}, element("summary", {}, question), element("p", {}, answer))),
    element("p", { class: "buttons" }, ...(state.tour > 1 ? [go(state.tour - 1, "Back", true)] : []),
      state.tour < TOUR_STEPS ? go(state.tour + 1, "Next") : go(0, "Finish"),
      ...(state.tour < TOUR_STEPS ? [go(0, "Leave the tour", true)] : [])));
}

/** To a step of the tour, 0 to leave it: what the step does not say is as it was at the start. */
function goTo(tour) {
  if (!tour) return change({ tour: 0 });
  const { title, text, questions, ...view } = tourOf(currentModel())[tour - 1];
  change({ ...defaults([...INTERVENTIONS, "measured"]), ...view, tour });
  find("#tour h2").focus();
}
