"""Feature tables: vectors of every window of many files in one Parquet file, written by ``avssl embed``.

Example:
    >>> table = read_feature_table("features.parquet")
    >>> table.info.what, table.video.shape == (len(table.paths), table.info.video_size)
    ('embeddings', True)
"""

from avssl.features.table.parts import TableParts as TableParts
from avssl.features.table.table import Column as Column
from avssl.features.table.table import FeatureTable as FeatureTable
from avssl.features.table.table import FeatureTableError as FeatureTableError
from avssl.features.table.table import TableInfo as TableInfo
from avssl.features.table.table import read_feature_table as read_feature_table
from avssl.features.table.table import write_feature_table as write_feature_table
