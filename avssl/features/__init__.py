"""Run a model over files.

=============== ================================================================================================
extract         One vector per row of a manifest (or per window), in memory and cached: for probes and retrieval.
stage_reader    The feature maps of every encoder stage, batch by batch: for the similarity of models (CKA).
block_deletion  Scores of a model without each of its residual blocks.
embed           One vector per window of every file, as a feature table: ``avssl embed``.
table           The feature table and its Parquet file.
search          Queries against a feature table; search_page shows the hits.
corpus          Clusters, copies, match and suspects among the clips of a feature table; corpus_page shows them.
localize        Heat maps of one video: ``avssl.localize``.
=============== ================================================================================================
"""
