"""Feature sets on disk: immutable HDF5 shards under a manifest, found by a key."""

from featx.cache.cleaning import Cleaning, clean, plan_cleaning
from featx.cache.entries import EntryInfo
from featx.cache.exchange import export_features, import_features
from featx.cache.feature_set import FeatureSet
from featx.cache.keys import SCHEMA_VERSION, FeatureKey, shard_rows_for, size_bytes_for
from featx.cache.store import FeatureStore
from featx.cache.writer import FeatureWriter

__all__ = [
    "SCHEMA_VERSION",
    "Cleaning",
    "EntryInfo",
    "FeatureKey",
    "FeatureSet",
    "FeatureStore",
    "FeatureWriter",
    "clean",
    "export_features",
    "import_features",
    "plan_cleaning",
    "shard_rows_for",
    "size_bytes_for",
]
