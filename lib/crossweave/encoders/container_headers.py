"""Whether files of sounds and videos end before their headers say: FFmpeg decodes what there is and says nothing."""

from __future__ import annotations

import struct

_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # the File Properties Object
_TAGS = (b"TAG", b"APETAGEX", b"ID3", b"LYRICSBEGIN")  # that may follow a stream of frames


def mp4_ends_early(data: bytes) -> bool:
    """Whether a top-level box claims more bytes than follow, or the index is missing."""
    at, found = 0, False
    while at + 8 <= len(data):
        size, name = int(struct.unpack(">I", data[at : at + 4])[0]), data[at + 4 : at + 8]
        if size == 1 and at + 16 <= len(data):
            size = int(struct.unpack(">Q", data[at + 8 : at + 16])[0])
        elif size == 0:  # to the end of the file
            size = len(data) - at
        if size < 8 or at + size > len(data):
            return True
        found = found or name == b"moov"
        at += size
    return not found


def matroska_ends_early(data: bytes) -> bool:
    """Whether the header, or the segment, which holds everything, claims more bytes than follow."""
    at = 4
    for _ in range(2):
        length, size = _matroska_size(data, at)
        if size is None:
            return False  # a live stream does not know its size
        at += length + size
        if at > len(data):
            return True
        at += 4  # the next element's name
    return False


def _matroska_size(data: bytes, at: int) -> tuple[int, int | None]:
    """Bytes of a variable-length number, and its value; None where it says that the size is unknown."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    if not first or at + length > len(data):
        return 1, len(data)  # torn: larger than anything
    most = (1 << 7 * length) - 1
    value = int.from_bytes(data[at : at + length], "big") & most
    return length, None if value == most else value


def avi_ends_early(data: bytes) -> bool:
    """Whether the RIFF chunk claims more bytes than follow."""
    return len(data) < 12 or int(struct.unpack("<I", data[4:8])[0]) + 8 > len(data)


def asf_ends_early(data: bytes) -> bool:
    """Whether the header names more bytes than there are, unless it says that it was written to a stream."""
    at = data.find(_ASF_FILE, 0, 1 << 16)
    if at < 0 or at + 92 > len(data):
        return True
    size, flags = int(struct.unpack_from("<Q", data, at + 40)[0]), int(struct.unpack_from("<I", data, at + 88)[0])
    return not flags & 1 and size > len(data)


def is_adts(data: bytes) -> bool:
    """Whether an AAC stream's first frame comes first, or after an ID3 tag."""
    at = after_id3(data)
    return len(data) > at + 1 and data[at] == 0xFF and data[at + 1] & 0xF6 == 0xF0


def adts_ends_early(data: bytes) -> bool:
    """Whether the last frame of an AAC stream is cut."""
    at = after_id3(data)
    while at + 6 <= len(data) and data[at] == 0xFF and data[at + 1] & 0xF6 == 0xF0:
        size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        if size < 7:
            return False  # no frame: whether it can be decoded is FFmpeg's to say
        at += size
    return at > len(data) or (0 < len(data) - at < 6 and not data.startswith(_TAGS, at))


def after_id3(data: bytes, at: int = 0) -> int:
    """Where what follows the ID3 tags that stand at a place begins; beyond the data where one is torn."""
    while data.startswith(b"ID3", at) and at + 10 <= len(data):
        footer = 10 if data[at + 5] & 0x10 else 0
        at += 10 + (data[at + 6] << 21 | data[at + 7] << 14 | data[at + 8] << 7 | data[at + 9]) + footer
    return at


def caf_ends_early(data: bytes) -> bool:
    """Whether a chunk claims more bytes than follow; the sound's own may leave its size open."""
    at = 8
    while at + 12 <= len(data):
        size = int(struct.unpack_from(">q", data, at + 4)[0])
        if size < 0:
            return False
        at += 12 + size
    return at != len(data)
