from .shards import SCHEMA as SCHEMA
from .store import PassRateStore as PassRateStore
from .store import StoreLockedError as StoreLockedError
