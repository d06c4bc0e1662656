"""How the page looks: the system's own fonts, colours with enough contrast, room on a phone."""

import gradio as gr

_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """Return the theme. White on emerald 700 has a contrast of 5.5 : 1; WCAG asks for 4.5 : 1."""
    return gr.themes.Soft(
        primary_hue="emerald",
        secondary_hue="emerald",
        neutral_hue="slate",
        font=_FONTS,
        font_mono=_MONO,
        text_size="lg",
        radius_size="md",
    ).set(
        body_background_fill="*neutral_50",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        color_accent="*primary_700",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_text_color="*neutral_700",
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
        block_title_padding="0",
        input_background_fill="white",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        button_secondary_border_color="*neutral_300",
        button_border_width="1px",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_background_fill_dark="#b91c1c",
        button_cancel_text_color="white",
        button_cancel_text_color_dark="white",
        checkbox_label_background_fill_selected="*primary_700",
        checkbox_label_background_fill_selected_dark="*primary_700",
        checkbox_label_border_width="1px",
        slider_color="*primary_700",
        chatbot_text_size="*text_md",
    )


_THUMB = (
    "M7 22V11M2 13v7a2 2 0 0 0 2 2h13.4a2.3 2.3 0 0 0 2.3-2l1.3-8a2.3 2.3 0 0 0-2.3-2.7H14V4.5"
    "A2.5 2.5 0 0 0 11.5 2L7 11H4a2 2 0 0 0-2 2z"
)
_MASK = (
    "url(\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' "
    "fill='none' stroke='black' stroke-width='2' stroke-linejoin='round'%3E%3Cpath d='"
    + _THUMB
    + "'/%3E%3C/svg%3E\") center / contain no-repeat"
)

CSS = (
    """
footer { display: none !important; }
.gradio-container { max-width: 56rem !important; margin: 0 auto !important; }
#heading h1 { margin: 0 0 .15rem; font-size: 1.75rem; letter-spacing: -.01em; }
#heading p { margin: 0; color: var(--body-text-color-subdued); }
#heading, #heading > div { background: none; border: 0; padding: 0 !important; }
#caution p, .consent p { color: var(--body-text-color-subdued); font-size: .875rem; margin: 0; }
.dark button[role=tab][aria-selected=true] { color: var(--primary-300); }

:is(#chat, #reviewed) {
  background: var(--block-background-fill); width: 100%; contain: inline-size;
}
:is(#chat, #reviewed) .message { overflow-wrap: anywhere; max-width: 100%; }
:is(#chat, #reviewed) .message :is(pre, table) {
  display: block; max-width: 100%; overflow-x: auto;
}
:is(#chat, #reviewed) :is(.message-row, .message-row > *) { min-width: 0; max-width: 100%; }
.prose, .notice { overflow-wrap: anywhere; }
:is(#chat, #reviewed) .message :not(pre) > code { display: inline; white-space: normal; }
:is(#chat, #reviewed) .icon-button-wrapper.top-panel { display: none; }
#chat .placeholder { text-align: center; }
#chat .examples {
  display: grid !important; grid-template-columns: 1fr 1fr; gap: .75rem; max-width: 100%;
}
#chat .example {
  border: 1px solid var(--border-color-primary); border-radius: .75rem; padding: .75rem 1rem;
  text-align: left; background: var(--background-fill-secondary); max-width: none; width: auto;
}
#review-key { align-items: flex-end; flex-wrap: nowrap; }
#review-key button { flex: 0 0 auto; align-self: flex-end; }
#ask { align-items: stretch; }
#ask button, #ask-buttons button { height: auto; min-height: 3rem; }

.card {
  border: 1px solid var(--block-border-color); border-radius: .75rem; padding: 1rem !important;
  background: var(--block-background-fill); gap: .75rem !important;
}
.card .block { border: 0; padding: 0 !important; background: none; box-shadow: none; }
.card + .card { margin-top: .25rem; }
.card .form { border: 0; background: none; box-shadow: none; gap: .75rem; }
.card .row { justify-content: flex-end; }
.card button.md { flex: 0 0 auto; width: auto; padding-inline: 1.1rem; white-space: nowrap; }
.card > button.md { align-self: flex-end; }
#own-row { gap: .5rem; }
#own-row button.md { align-self: flex-start; }
#judging .row { justify-content: flex-start; align-items: center; }
#good, #bad { display: inline-flex; flex-direction: row; }
#good::before, #bad::before {
  content: ""; width: 1.1em; height: 1.1em; margin-right: .4em; background: currentColor;
  mask: MASK; -webkit-mask: MASK;
}
#bad::before { transform: rotate(180deg); }

.notice {
  border-left: 4px solid var(--primary-600) !important; padding: .4rem .75rem !important;
  background: var(--background-fill-secondary); border-radius: .25rem;
}
.notice .notice { border: 0 !important; padding: 0 !important; box-shadow: none !important; }
.notice p { margin: 0; }
#status { position: sticky; bottom: .75rem; z-index: 5; align-items: center; }
#status .notice { box-shadow: 0 2px 8px rgb(0 0 0 / .15); }
button.example.md {
  justify-content: flex-start; text-align: left; font-weight: 400; white-space: normal;
}
@media (max-width: 640px) {
  .gradio-container > main, main.app { padding: .75rem !important; }
  #heading h1 { font-size: 1.4rem; }
  #chat .examples { grid-template-columns: 1fr; }
  .card { padding: .75rem !important; }
  .card .row > button.md { flex-grow: 1; }
  .card > button.md { align-self: stretch; }
}
"""
).replace("MASK", _MASK)
