"""Makes sealed.bin from nothing but the specifications: BLAKE3's, RFC 8439, and the draft of XChaCha20.

Run by hand: python3 sealed.py > sealed.bin
"""

import struct
import sys

M = 0xFFFFFFFF


def blake3_block(cv, block, flags):
    iv = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
    cv = cv or iv
    m = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    v = cv + iv[:4] + [0, 0, len(block), flags]

    def turn(x, n):
        return (x >> n | x << (32 - n)) & M

    def g(a, b, c, d, x, y):
        v[a] = (v[a] + v[b] + x) & M
        v[d] = turn(v[d] ^ v[a], 16)
        v[c] = (v[c] + v[d]) & M
        v[b] = turn(v[b] ^ v[c], 12)
        v[a] = (v[a] + v[b] + y) & M
        v[d] = turn(v[d] ^ v[a], 8)
        v[c] = (v[c] + v[d]) & M
        v[b] = turn(v[b] ^ v[c], 7)

    for _ in range(7):
        for i in range(4):
            g(i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1])
        for i in range(4):
            g(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i])
        m = [m[i] for i in (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)]
    return [v[i] ^ v[i + 8] for i in range(8)]


def derive_key(context, key):
    """Both fit one block: chunk start 1, chunk end 2, root 8; context 32, key material 64."""
    cv = blake3_block(None, context, 1 | 2 | 8 | 32)
    return struct.pack("<8I", *blake3_block(cv, key, 1 | 2 | 8 | 64))


def rounds(state):
    x = list(state)

    def quarter(a, b, c, d):
        for p, q, r, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[p] = (x[p] + x[q]) & M
            x[r] ^= x[p]
            x[r] = (x[r] << n | x[r] >> (32 - n)) & M

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return x


def words(data):
    return list(struct.unpack(f"<{len(data) // 4}I", data))


CONSTANT = words(b"expand 32-byte k")


def chacha20(key, counter, nonce, data):
    out = b""
    for at in range(0, len(data), 64):
        state = CONSTANT + words(key) + [counter + at // 64] + words(nonce)
        stream = struct.pack("<16I", *((a + b) & M for a, b in zip(rounds(state), state)))
        out += bytes(a ^ b for a, b in zip(data[at : at + 64], stream))
    return out


def poly1305(key, data):
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    a = 0
    for at in range(0, len(data), 16):
        a = (a + int.from_bytes(data[at : at + 16] + b"\1", "little")) * r % ((1 << 130) - 5)
    return ((a + int.from_bytes(key[16:], "little")) & ((1 << 128) - 1)).to_bytes(16, "little")


def xchacha20_poly1305(key, nonce, aad, data):
    block = rounds(CONSTANT + words(key) + words(nonce[:16]))
    key = struct.pack("<8I", *block[:4], *block[12:])
    nonce = bytes(4) + nonce[16:]
    sealed = chacha20(key, 1, nonce, data)
    once = chacha20(key, 0, nonce, bytes(32))

    def pad(part):
        return part + bytes(-len(part) % 16)

    return sealed, poly1305(once, pad(aad) + pad(sealed) + struct.pack("<QQ", len(aad), len(sealed)))


clear = b"WALG" + struct.pack("<HBB", 1, 0, 2)
nonce = bytes(range(24))
address = bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 3]) + struct.pack("<H", 7451)
head = struct.pack("<B16sQQQQ", 4, (7).to_bytes(16, "little"), 3, 1_000, 2, 999) + address + struct.pack("<H", 8)
key = derive_key(b"walengine gossip 1 sealed datagram", bytes([0x4B]) * 32)
sealed, tag = xchacha20_poly1305(key, nonce, clear, head + b"body")
sys.stdout.buffer.write(clear + tag + nonce + sealed)
