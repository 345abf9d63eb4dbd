"""Compression of the topics, which decides who numbers the records of a batch.

A broker does not check the offsets that the records of an uncompressed batch claim, and librdkafka
believes them.  A batch that the broker compresses itself it also numbers itself, and of a client's
compressed batch it checks the numbers (measured on Kafka 4.4).
"""

IMAGES = "uncompressed"
"""Images are compressed already.  The broker decompresses a client's compressed batch once, and
refuses it above the limit; stored compressed, its 30 MB could become 30 GB in every stage that
reads it, on every read.  So inference numbers uploads itself (`record_parser.py`)."""
JSON = "lz4"
"""LZ4 compresses 255 to 1 at best, so that no batch becomes more than 255 times
`max.message.bytes`, some 9 MB; and lz4-java runs without its native library, too."""
