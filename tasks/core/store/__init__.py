"""Content-addressed artifacts: complete or not there, never written twice, never changed."""

from tasks.core.store.manifest import Manifest
from tasks.core.store.remote import RemoteStore, configured_remote
from tasks.core.store.run import RunStore
from tasks.core.store.shelf import Artifact
from tasks.core.store.staging import Staging
from tasks.core.store.store import Built, Store

__all__ = [
    "Artifact",
    "Built",
    "Manifest",
    "RemoteStore",
    "RunStore",
    "Staging",
    "Store",
    "configured_remote",
]
