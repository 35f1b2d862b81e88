// Whether data is still the same: 64 bits over all of it. Two mixes of 32 bits each, as in xxHash's short form; quick in
// JavaScript, and against chance, not against an enemy.

const P1 = 0x9e3779b1;
const P2 = 0x85ebca77;
const P3 = 0xc2b2ae3d;
const P4 = 0x27d4eb2f;

export class Fingerprint {
  #a = P1;
  #b = P3;
  #length = 0;
  /** Bytes that don't fill a word yet. */
  #rest = 0;
  #filled = 0;

  /** The same bytes in other pieces give the same. */
  bytes(bytes: Uint8Array): this {
    let a = this.#a;
    let b = this.#b;
    let word = this.#rest;
    let filled = this.#filled;
    let i = 0;
    const { length } = bytes;
    if (!filled) {
      for (; i + 4 <= length; i += 4) {
        const whole =
          (bytes[i] as number) |
          ((bytes[i + 1] as number) << 8) |
          ((bytes[i + 2] as number) << 16) |
          ((bytes[i + 3] as number) << 24);
        a = mixed(a, whole, P2, P1);
        b = mixed(b, whole, P4, P3);
      }
    }
    for (; i < length; i++) {
      word |= (bytes[i] as number) << (8 * filled);
      if (++filled < 4) continue;
      a = mixed(a, word, P2, P1);
      b = mixed(b, word, P4, P3);
      word = filled = 0;
    }
    this.#a = a;
    this.#b = b;
    this.#rest = word;
    this.#filled = filled;
    this.#length += length;
    return this;
  }

  /** One piece, told apart from what stands around it. */
  text(text: string): this {
    const bytes = encoder.encode(text);
    return this.number(bytes.length).bytes(bytes);
  }

  number(value: number): this {
    return this.bytes(new Uint8Array(Float64Array.of(value).buffer));
  }

  /** 16 hexadecimal digits. */
  digest(): string {
    const tail = this.#rest ^ Math.imul(this.#filled + 1, P4);
    const length = this.#length >>> 0;
    const a = avalanche(mixed(mixed(this.#a, tail, P2, P1), length, P2, P1) ^ this.#b);
    const b = avalanche(mixed(mixed(this.#b, tail, P4, P3), length, P4, P3) ^ Math.imul(a, P1));
    return hex(a) + hex(b);
  }
}

export function fingerprintOf(text: string): string {
  return new Fingerprint().text(text).digest();
}

const encoder = new TextEncoder();

function mixed(state: number, word: number, by: number, and: number): number {
  const sum = (state + Math.imul(word, by)) | 0;
  return Math.imul((sum << 13) | (sum >>> 19), and);
}

function avalanche(hash: number): number {
  hash = Math.imul(hash ^ (hash >>> 15), P2);
  hash = Math.imul(hash ^ (hash >>> 13), P3);
  return hash ^ (hash >>> 16);
}

function hex(hash: number): string {
  return (hash >>> 0).toString(16).padStart(8, "0");
}
