"""The encoder of a model that a command names: its tokenizer, with the template of its prompts."""

from flows.actions.local_models import in_use
from flows.command_line.sources import source_of
from tasks.core.conversation.examples.labels import Encoder
from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.home import home
from tasks.core.hub.download.pinned import PinnedSource
from tasks.core.model.template_record import DEFAULT_TEMPLATE
from tasks.core.store import Store


def encoder_of(model: str, template: str | None, max_length: int) -> Encoder:
    """Return the encoder of a directory or repository, by default with the template it records."""
    source = source_of(model)
    with in_use(*filter(None, [source.directory])):
        template = template or PinnedSource(source, Store(home())).template() or DEFAULT_TEMPLATE
        tokenizer = load_tokenizer(source.directory or str(source.repo), source.revision)
    return Encoder(tokenizer, template, max_length)
