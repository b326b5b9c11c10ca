import { EmbeddError, messageOf } from "../../errors.js";

/** What a native library runs on. */
export interface System {
  platform: string;
  arch: string;
  /** The version of glibc; undefined on musl and outside Linux. */
  glibc: string | undefined;
}

/** What the binaries of `onnxruntime-node` 1.30 and `tokenizers` 0.23 were built for (`readelf --version-info`). */
const NEEDS =
  "Linux with glibc 2.28 or newer (2.30 on arm64) on x64 or arm64, macOS on arm64, or Windows on x64 or arm64";
const PLATFORMS = new Set(["linux x64", "linux arm64", "darwin arm64", "win32 x64", "win32 arm64"]);

/**
 * Imports a package with a native library.
 * @throws EmbeddError `configuration`/`native_library` with the loader's own words if the library cannot be loaded
 */
export async function importNative<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    throw nativeLibraryError(name, error, thisSystem());
  }
}

/** Explains why a native library was not loaded: its loader's words, what it needs, and what this system is. */
export function nativeLibraryError(name: string, cause: unknown, system: System): EmbeddError {
  const { platform, arch, glibc } = system;
  const isMusl = platform === "linux" && glibc === undefined;
  const fits = PLATFORMS.has(`${platform} ${arch}`) && !isMusl;
  const library = platform === "linux" ? (isMusl ? " with musl" : ` with glibc ${glibc ?? ""}`) : "";
  const message =
    `cannot load the native library of ${name}: ${loaderWords(cause)}\n` +
    `  it needs ${NEEDS}; this is ${platform}${library} on ${arch}`;
  const options = { kind: "configuration", code: "native_library", cause } as const;
  // Where the library should run, the installation is damaged.
  return new EmbeddError(message, {
    ...options,
    hint: fits ? "npm ci" : "EMBEDD_PROVIDER=ollama embedd run",
  });
}

/** The one line that says most: the dynamic linker's, else that of the first file that was tried. */
function loaderWords(error: unknown): string {
  const chain: Error[] = [];
  for (let at = error; at instanceof Error && !chain.includes(at); at = at.cause) chain.push(at);
  const linker = chain.find((link) => Reflect.get(link, "code") === "ERR_DLOPEN_FAILED");
  return messageOf(linker ?? chain.at(-1) ?? error).replace(/\n[^]*/, "");
}

function thisSystem(): System {
  const { platform, arch, report } = process;
  // Otherwise the report looks up the name of every peer of an open socket. Node 20's types lack it.
  const before: unknown = Reflect.get(report, "excludeNetwork");
  Reflect.set(report, "excludeNetwork", true);
  const { header } = report.getReport() as { header?: { glibcVersionRuntime?: string } };
  Reflect.set(report, "excludeNetwork", before);
  return { platform, arch, glibc: header?.glibcVersionRuntime };
}
