"""Interactive figures: what they show is what the package computes, before and after a reader has touched them, by
mouse and by keyboard; nothing is asked of a network."""
import re
import shutil

import numpy as np
import pytest
import torch

from going_modular import utils
from going_modular.drawn import draw_food
from going_modular.lessons import interactive
from going_modular.paper import inspection
from going_modular.vit import PatchEmbedding, ViT, count_macs, count_parameters

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def model():
    return utils.load_model("seven_dishes")[0]


@pytest.fixture(scope="module")
def egg():
    return draw_food("fried_eggs", np.random.default_rng(1), size=48)


@pytest.fixture(scope="module")
def figures(model, egg):
    return {"layers": interactive.layers(),
            "patch_grid": interactive.patch_grid(draw_food("pizza", np.random.default_rng(12), size=224)),
            "position_similarity": interactive.position_similarity(
                {"trained": model.position_embedding, "<new>": ViT(**model.settings).position_embedding}),
            "attention": interactive.attention(model, egg)}


NAMES = ("layers", "patch_grid", "position_similarity", "attention")


@pytest.mark.parametrize("name", NAMES)
def test_small_and_alone(figures, name):
    figure = figures[name]
    assert len(figure._repr_html_().encode()) < 60_000
    assert repr(figure).endswith(".") and not re.search(r"https?:|\bimport\b|\bsrc=.(?!data:)", figure.html)


def test_what_cannot_be_shown_is_refused(model, egg):
    with pytest.raises(ValueError, match="does not divide"):
        interactive.patch_grid(egg, image_size=100)
    with pytest.raises(ValueError, match="cut it to a square"):
        interactive.patch_grid(egg.crop((0, 0, 48, 40)))
    with pytest.raises(ValueError, match="resize it"):
        interactive.attention(model, egg.resize((64, 64)))
    with pytest.raises(ValueError, match="class token and square images"):
        interactive.attention(ViT(**{**model.settings, "pool": "mean"}), egg)
    with pytest.raises(ValueError, match="no layer 4: the model has 4, counted from 0"):
        interactive.attention(model, egg, layer=4)
    with pytest.raises(ValueError, match="square grid"):
        interactive.position_similarity({"mine": torch.zeros(1, 12, 4)})
    with pytest.raises(ValueError, match="one grid"):
        interactive.position_similarity({"a": torch.ones(1, 4, 4), "b": torch.ones(1, 9, 4)})
    with pytest.raises(ValueError, match="smaller model"):
        interactive.position_similarity({"B/16": torch.randn(1, 197, 8)})


def test_a_model_of_one_head_is_shown(model, egg):
    one_head = ViT(**{**model.settings, "num_heads": 1, "hidden_size": 16})
    assert interactive.attention(one_head, egg).text.startswith("Head 0: ")


# ----------------------------------------------------------------------------------------------------------------------
# In a browser


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("there is no Chromium here: install chromium or google-chrome")
    sync_api = pytest.importorskip("playwright.sync_api", reason="figures are tried with: pip install -e '.[browser]'")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A phone's page; requests and errors, of which there must be none, are counted."""
    page, troubles = browser.new_page(viewport={"width": 390, "height": 800}), []
    page.route(lambda url: not url.startswith(("data:", "about:")),
               lambda route: (troubles.append(route.request.url), route.abort()))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text))
    yield page
    page.close()
    assert not troubles


def show(page, *figures):
    page.set_content("<!doctype html>" + "".join(f"<section>{figure.html}</section>" for figure in figures))
    return page


def live(page):
    return page.text_content("[aria-live]")


def numbers(page, selector, digits=r"−?[\d,.]+"):
    texts = page.locator(selector).all_text_contents()
    return [float(re.search(digits, text)[0].replace(",", "").replace("−", "-")) for text in texts]


@pytest.mark.parametrize("name", NAMES)
def test_the_script_starts_with_what_is_there_without_it(page, figures, name):
    show(page, figures[name])
    assert page.get_attribute(f"#vit-{name.replace('_', '-')}", "data-live") == ""
    same = page.evaluate("""(html) => {
        const written = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
        document.querySelector("section > div").removeAttribute("data-live");
        return document.querySelector("section > div").isEqualNode(written);
    }""", figures[name].html)
    assert same
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "wider than a phone"


@pytest.mark.parametrize("name", NAMES)
def test_two_of_a_kind_on_one_page(page, figures, name):
    show(page, figures[name], figures[name])
    before = page.locator("[aria-live]").all_text_contents()
    for half in range(2):  # each answers for itself alone
        choice = page.locator("section").nth(half)
        choice.locator("button[aria-pressed=false], .photo").first.click()
        after = page.locator("[aria-live]").all_text_contents()
        assert [text != old for text, old in zip(after, before)] == [True, half == 1]


@pytest.mark.parametrize("variant, image_size", [("Mini/8", 64), ("Ti/16", 384), ("L/32", 224), ("H/14", 518)])
def test_layers_count_as_the_package(page, figures, variant, image_size):
    name, patch_size = variant.split("/")
    with torch.device("meta"):
        model = ViT.from_variant(variant, image_size=image_size)
    show(page, figures["layers"]).get_by_role("button", name=name, exact=True).click()
    page.get_by_label("patch size").fill(patch_size)
    page.get_by_label("image size").fill(str(image_size))
    expected = f"{count_parameters(model):,} parameters, {count_macs(model):,} multiply-adds."
    assert expected in live(page) and expected in interactive.layers(variant, image_size).text
    page.get_by_label("image size").fill("225")
    assert f"patches of {patch_size} px do not fit into 225 px" in live(page)
    page.get_by_label("image size").fill("")
    assert "a whole number from 16 to 1024" in live(page)


def test_patch_grid_counts_as_the_package(page, figures):
    show(page, figures["patch_grid"])
    for label, value in (("patch size", 32), ("image size", 96), ("channels", 4), ("hidden size", 10)):
        page.get_by_label(label).fill(str(value))
    shown = dict(zip(("patches", "numbers", "tokens", "parameters", "positions", "pairs"), numbers(page, ".counts b")))
    parameters = count_parameters(PatchEmbedding(patch_size=32, in_channels=4, hidden_size=10))
    assert shown == dict(patches=9, numbers=4096, tokens=10, parameters=parameters, positions=100, pairs=100)
    page.focus(".photo")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight"):  # the last row is the last
        page.keyboard.press(key)
    assert "row 3, column 2 is patch (3 − 1) · 3 + 2 = 8 of 9" in live(page)
    assert page.get_attribute(".grid rect", "y") == "64"


def test_positions_are_compared_as_the_package_does_it(page, figures, model):
    similarity = inspection.position_similarity(model)
    show(page, figures["position_similarity"]).locator(".map [tabindex='0']").focus()
    for key in ("ArrowUp", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
    shown = torch.tensor(numbers(page, ".map td")).view(6, 6)
    assert torch.allclose(shown, similarity[1, 2], atol=0.0051)
    assert "row 2, column 3" in live(page)
    assert numbers(page, ".means tr:first-child td:last-child") == pytest.approx(
        [(similarity[1, 2, 1].sum().item() - 1) / 5], abs=0.01)
    page.get_by_role("button", name="<new>").press("Enter")
    assert live(page).startswith("<new>") and sum(value > 0.5 for value in numbers(page, ".map td")) == 1


def test_attention_is_that_of_the_model(page, figures, model, egg):
    pixels = torch.from_numpy(np.array(egg)).permute(2, 0, 1) / 127.5 - 1
    inside = {}
    with torch.no_grad():
        model(pixels[None], intermediates=inside)
    show(page, figures["attention"])
    page.get_by_role("button", name="3", exact=True).press("Enter")
    page.locator("[data-map=query] [tabindex='0']").focus()
    page.keyboard.press("ArrowDown")  # row 5, column 4
    expected = inside["block00.attention"][0, 3, 1 + 4 * 6 + 3]
    shown = torch.tensor(numbers(page, "[data-map=weights] td")) / 100
    assert torch.allclose(shown, expected[1:], atol=0.02)  # q and k are rounded to one decimal
    # By hand: the products sum to the score, and the parts to the weighted sum.
    page.locator("[data-map=scores] td").nth(8).click()
    q, k, products, *parts, total = torch.tensor(numbers(page, "[data-vector] td")).view(-1, 16)
    assert torch.allclose(q * k, products, atol=0.0051)
    score = products.sum().item() / 4
    assert f"/ √16 = {score:.2f}".replace("-", "−") in page.text_content("[data-value=score]")
    assert numbers(page, "[data-map=scores] td")[8] == pytest.approx(score, abs=0.051)
    assert torch.allclose(sum(parts), total, atol=0.021)
    page.get_by_role("button", name="the class token asks").press("Enter")
    shown = torch.tensor(numbers(page, "[data-map=weights] td")) / 100
    assert torch.allclose(shown, inside["block00.attention"][0, 3, 0, 1:], atol=0.02)
    assert "the class token takes most from" in live(page)
