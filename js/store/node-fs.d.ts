// Of Node's files, what the store of a directory uses; Deno and Bun have it too. The package knows no other types of Node.

declare module "node:fs/promises" {
  interface FileHandle {
    write(
      bytes: Uint8Array,
      offset: number,
      length: number,
      position: number,
    ): Promise<{ bytesWritten: number }>;
    stat(): Promise<{ ino: number }>;
    datasync(): Promise<void>;
    truncate(length: number): Promise<void>;
    close(): Promise<void>;
  }
  export function open(path: string, flags: string, mode?: number): Promise<FileHandle>;
  export function stat(path: string): Promise<{ ino: number; mode: number }>;
  export function chmod(path: string, mode: number): Promise<void>;
  export function readFile(path: string): Promise<Uint8Array>;
  export function readdir(path: string): Promise<string[]>;
  export function mkdir(path: string, options: { recursive: true; mode: number }): Promise<unknown>;
  export function link(from: string, to: string): Promise<void>;
  export function rm(path: string, options: { force: true }): Promise<void>;
}
