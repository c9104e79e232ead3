/**
 * lib-debian: Debian's packages as a source of guests, without root and without installing anything.
 * Used by tests and by the image catalogue; a library, so it has no plugin of its own.
 */
export { type DebEntry, type DebSink, type DebVisitor, normalPath, walkDeb } from "./deb.ts";
export { DebianError, type DebianErrorCode } from "./errors.ts";
export {
  type CachedPackage,
  cachedPackage,
  type DebianFetchOptions,
  type DebianFileRequest,
  type DebianPackageRequest,
  defaultCacheDir,
  fetchDebianFile,
  fetchDebianPackage,
  findInDeb,
  forgetPackage,
  machineMirror,
  packagesWithDependencies,
  unpackDeb,
} from "./fetch.ts";
export { lock } from "./lock.ts";
export {
  type AptSource,
  type DebianMirror,
  parseDeb822Sources,
  parseOneLineSources,
  pickMirror,
  readMachineSources,
} from "./sources.ts";
