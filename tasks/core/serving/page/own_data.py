"""A person's decisions about their own conversations: having them stored, and deleted.

Shown only if the deployment collects. The invariant: there is no consent until the box is ticked,
and only then an id, which is random and stored in the person's browser.
"""

import secrets
from dataclasses import dataclass
from typing import Any

import gradio as gr

from tasks.core.serving.page import words
from tasks.core.serving.page.gateway import ServedModel, Trouble
from tasks.core.serving.page.wishes import LOG, notice

Update = dict[Any, Any]

_KEY = "kawan-usaha-izin"
_ID_BYTES = 10  # cannot be guessed, but can still be read out


@dataclass(frozen=True)
class Person:
    """The person at a browser: at most a random id."""

    id: str = ""
    agrees: bool = False

    @classmethod
    def of(cls, stored: object) -> "Person":
        """Return the person that a browser has stored; an empty one for anything else."""
        match stored:
            case {"id": str(mine), "agrees": bool(agrees)} if len(mine) == 2 * _ID_BYTES:
                return cls(mine, agrees)
        return cls()

    @classmethod
    def new(cls) -> "Person":
        """Return somebody who has just agreed."""
        return cls(secrets.token_hex(_ID_BYTES), agrees=True)

    def keeps_for(self, ticked: object) -> str | None:
        """Return whom an answer is kept for, None for nobody.

        Asked of the browser's store and of the box: what is unticked counts before it is stored.
        """
        return self.id if self.id and self.agrees and ticked is True else None

    def stored(self) -> dict[str, Any]:
        """Return what the browser is to store."""
        return {"id": self.id, "agrees": self.agrees}


class OwnData:
    """A check box, the id, and a button that deletes."""

    def __init__(self, model: ServedModel, kept_days: int) -> None:
        self._model = model
        # The secret only keeps stored data readable after a restart of the page.
        self.mine = gr.BrowserState(Person().stored(), storage_key=_KEY, secret=_KEY)
        with gr.Column(elem_id="own-data", elem_classes="card"):
            self.agrees = gr.Checkbox(
                False,
                label=words.AGREE,
                info=words.agree_hint(kept_days),
                container=False,
                interactive=False,  # until it shows what was decided before
                elem_id="agrees",
            )
            with gr.Column(visible=False, elem_id="own-row") as self._own:
                self._id = gr.Markdown(elem_classes="consent")
                self._delete = gr.Button(words.DELETE_MINE, size="md", elem_id="delete-mine")
            self._told = gr.Markdown(visible=False, elem_classes="notice")

    def connect(self, blocks: gr.Blocks) -> None:
        """Connect the widgets to their handlers."""
        quiet: Any = {"show_progress": "hidden", "api_visibility": "private"}
        shown = [self.agrees, self._own, self._id, self._told]
        blocks.load(self.opened, self.mine, shown, **quiet)
        self.agrees.input(self.decided, [self.agrees, self.mine], [self.mine, *shown], **quiet)
        self._delete.click(self.delete, self.mine, [self.mine, *shown], **quiet)

    def opened(self, stored: object) -> Update:
        """Show the earlier decision."""
        return self._shown(Person.of(stored))

    def decided(self, agrees: bool, stored: object) -> Update:
        """Record a decision. Revoking it keeps the id, with which stored answers can be deleted."""
        before = Person.of(stored)
        person = Person(before.id, agrees=agrees)
        if agrees and not before.id:
            person = Person.new()
        return {self.mine: person.stored(), **self._shown(person)}

    async def delete(self, stored: object) -> Update:
        """Delete everything; then there is no id and no consent any more."""
        try:
            count = await self._model.forget(Person.of(stored).id)
        except Trouble as trouble:
            LOG.error("a person's data could not be deleted: %s", trouble)
            return {self._told: notice(words.NOT_DELETED)}
        nobody = Person()
        told = {self._told: notice(words.deleted(count))}
        return {self.mine: nobody.stored(), **self._shown(nobody), **told}

    def _shown(self, person: Person) -> Update:
        return {
            self.agrees: gr.Checkbox(person.agrees, interactive=True),
            self._own: gr.Column(visible=bool(person.id)),
            self._id: words.your_id(person.id),
            self._told: notice(),
        }
