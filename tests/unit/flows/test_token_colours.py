from flows.actions.token_colours import tokens_in_colour
from tasks.core.conversation.examples.labels import TokenText

TOKENS = [
    TokenText("USER: Halo ", "masked"),
    TokenText("Apa ", "learned"),
    TokenText("kabar", "learned"),
    TokenText("</s>", "learned"),
    TokenText("USER: [bold]", "truncated"),
]


def test_each_state_has_its_colour_and_neighbouring_learned_tokens_differ() -> None:
    shown = tokens_in_colour(TOKENS, marks=False)
    styles = {shown.plain[span.start : span.end]: str(span.style) for span in shown.spans}
    assert shown.plain == "".join(token.text for token in TOKENS)
    assert styles["Apa "] == styles["</s>"] == "bold green"
    assert styles["kabar"] == "green underline"
    assert (styles["USER: Halo "], styles["USER: [bold]"]) == ("dim", "red")


def test_without_colour_brackets_stand_around_what_is_learned() -> None:
    shown = tokens_in_colour(TOKENS, marks=True)
    assert shown.plain == "USER: Halo ⟦Apa kabar</s>⟧USER: [bold]"
