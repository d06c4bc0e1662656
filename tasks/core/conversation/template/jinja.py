"""FastChat's templates as Jinja chat templates, so that other tools build the same prompts.

Covers the separator styles of Vicuna (ADD_COLON_TWO), of its relatives with one separator
(ADD_COLON_SINGLE) and of ChatML (CHATML); others are refused by name. The invariant: for messages
that alternate, user first, transformers' `apply_chat_template` gives the bytes of FastChat's
`get_prompt`.
"""

import json

from fastchat.conversation import Conversation as FastChatTemplate
from fastchat.conversation import SeparatorStyle

from tasks.core.conversation.template.render import get_template
from tasks.core.errors import RecipeError

_PLACEHOLDER = "\ue000"

# A first system message replaces the template's own. FastChat places separators by position, so
# speakers that do not alternate would give another text.
_BODY = """\
{%- if messages and messages[0]['role'] == 'system' -%}
{%- set system = messages[0]['content'] -%}{%- set turns = messages[1:] -%}
{%- else -%}
{%- set system = default_system -%}{%- set turns = messages -%}
{%- endif -%}
{%- set system_prompt = before_system + system + after_system -%}
{%- if system_prompt or shows_empty_system -%}{{- system_prompt + system_separator -}}{%- endif -%}
{%- for turn in turns -%}
{%- set is_user = loop.index0 % 2 == 0 -%}
{%- if turn['role'] != ('user' if is_user else 'assistant') -%}
{{- raise_exception('Messages must alternate between user and assistant, user first.') -}}
{%- endif -%}
{{- (before_user if is_user else before_assistant) + turn['content'] -}}
{{- after_user if is_user else after_assistant -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- generation_prompt -}}{%- endif -%}"""


def chat_template(template_name: str, *, bos: bool = False, after_bos: str = "") -> str:
    """Return a Jinja chat template that renders what FastChat's template with this name renders.

    `bos` adds the tokenizer's first token. FastChat leaves it to the tokenizer, but
    `apply_chat_template` keeps the tokenizer from adding it: a tokenizer that begins every text
    with it, as LLaMA's does, needs `bos` to give equal tokens, and some versions of it also need a
    space as `after_bos`. Raises RecipeError for other separator styles and for templates that begin
    with example turns.
    """
    template = get_template(template_name)
    if template.messages:
        raise _unsupported(template, "turns of its own at the beginning")
    settings = [
        "{%- set " + f"{name} = {json.dumps(value, ensure_ascii=False)}" + " -%}"
        for name, value in _settings(template).items()
    ]
    begin = ["{{- bos_token + " + json.dumps(after_bos) + " -}}"] if bos else []
    return "\n".join([*settings, *begin, _BODY])


def _settings(template: FastChatTemplate) -> dict[str, str | bool]:
    user, assistant = template.roles[:2]
    before, _, after = template.system_template.format(system_message=_PLACEHOLDER).partition(
        _PLACEHOLDER
    )
    system: dict[str, str | bool] = {
        "default_system": template.system_message,
        "before_system": before,
        "after_system": after,
    }
    if template.sep_style in (SeparatorStyle.ADD_COLON_TWO, SeparatorStyle.ADD_COLON_SINGLE):
        two = template.sep_style == SeparatorStyle.ADD_COLON_TWO
        return system | {
            "system_separator": template.sep,
            "shows_empty_system": True,
            "before_user": f"{user}: ",
            "after_user": template.sep,
            "before_assistant": f"{assistant}: ",
            "after_assistant": (template.sep2 or "") if two else template.sep,
            "generation_prompt": f"{assistant}:",
        }
    if template.sep_style == SeparatorStyle.CHATML:
        return system | {
            "system_separator": f"{template.sep}\n",
            "shows_empty_system": False,
            "before_user": f"{user}\n",
            "after_user": f"{template.sep}\n",
            "before_assistant": f"{assistant}\n",
            "after_assistant": f"{template.sep}\n",
            "generation_prompt": f"{assistant}\n",
        }
    raise _unsupported(template, template.sep_style.name)


def _unsupported(template: FastChatTemplate, found: str) -> RecipeError:
    return RecipeError(
        "A template of this kind cannot be translated for tokenizer files.",
        where=f"template {template.name}",
        expected="the style ADD_COLON_TWO (as vicuna_v1.1), ADD_COLON_SINGLE (as zero_shot) or "
        "CHATML (as qwen-7b-chat)",
        found=found,
        next_step="Take one of these, or serve with FastChat only, which needs no chat template.",
    )
