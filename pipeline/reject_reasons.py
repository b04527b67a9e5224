"""Reasons why rows are rejected, as rejects.parquet has them; vocab/FORMAT.md lists the same."""

from __future__ import annotations

NULL_CAPTION = "null_caption"
"""the row's caption columns hold nothing"""
MISSING_VALUE = "missing_value"
"""the row's captions are the text of a missing value alone, such as nan"""
NO_CAPTION = "no_caption"
"""a sample without a member that holds captions, or a row of a file without any of the caption columns"""
NOT_UTF8 = "not_utf8"
"""a caption, a key or a shard that is not UTF-8"""
CAPTION_TOO_LONG = "caption_too_long"
"""a caption longer than --max-caption-bytes"""
MALFORMED_RECORD = "malformed_record"
"""not JSON; not a record of the table, or its header once more; a key of a type that cannot name a sample"""
NULL_KEY = "null_key"
"""the key column is null, NaN or empty"""
NULL_SHARD = "null_shard"
"""the shard column is null, NaN or empty"""
NULL_SYNSET = "null_synset"
"""the row names no synset, and the job reads no captions"""
UNKNOWN_SYNSET = "unknown_synset"
"""the row names a synset that is not a noun of WordNet 3.0"""
UNLISTED_IMAGE = "unlisted_image"
"""an annotation of COCO whose image is not listed"""
FAILED_DOWNLOAD = "status:"
"""begins the reason of a row whose download failed; img2dataset's status follows"""
REPEATED_KEY = "repeated_key"
"""another sample of the tar has the same key"""
TRUNCATED_TAR = "truncated_tar"
"""the tar breaks off inside this sample"""
UNREADABLE_FILE = "unreadable_file"
"""the one row that stands for a file that cannot be read, or not to its end"""
UNREADABLE_ROW_GROUP = "unreadable_row_group"
"""a row in a broken part of a Parquet file"""
NULL_ID = "null_id"
"""in aligned labels: a sample without an id"""
NO_LABEL = "no_label"
"""in aligned labels: a sample whose id has no label"""

REASONS = (
    NULL_CAPTION, MISSING_VALUE, NO_CAPTION, NOT_UTF8, CAPTION_TOO_LONG, MALFORMED_RECORD, NULL_KEY, NULL_SHARD,
    NULL_SYNSET, UNKNOWN_SYNSET, UNLISTED_IMAGE, FAILED_DOWNLOAD, REPEATED_KEY, TRUNCATED_TAR, UNREADABLE_FILE,
    UNREADABLE_ROW_GROUP, NULL_ID, NO_LABEL,
)  # fmt: skip
