/**
 * Coded errors: every mistake that a person can make is one class, one stable code, one sentence.
 *
 * Invariant: `message` is a single clear sentence that says what is wrong, where, and what to do; a toolstack
 * prints it without a stack trace. Anything that is not a HookvisorError is a defect of the project.
 */

/** Base of all errors whose message is meant for the user. `code` is stable across releases. */
export class HookvisorError extends Error {
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** A plugin is malformed, incompatible, or breaks its contract. `plugin` is its name or the place it came from. */
export class PluginError extends HookvisorError {
  readonly plugin: string;
  constructor(code: PluginErrorCode, plugin: string, message: string, options?: ErrorOptions) {
    super(code, message, options);
    this.plugin = plugin;
  }
}

/** The stable codes of PluginError. */
export type PluginErrorCode =
  | "HV_PLUGIN_NOT_FOUND"
  | "HV_PLUGIN_LOAD"
  | "HV_PLUGIN_NOT_OBJECT"
  | "HV_PLUGIN_NAME"
  | "HV_PLUGIN_NO_APPLY"
  | "HV_PLUGIN_API_RANGE"
  | "HV_PLUGIN_API_VERSION"
  | "HV_PLUGIN_REQUIRES"
  | "HV_PLUGIN_DUPLICATE"
  | "HV_PLUGIN_APPLY"
  | "HV_PROVIDER_TAKEN"
  | "HV_PROVIDER_MISSING"
  | "HV_HOOKS_SEALED"
  | "HV_HOOKS_OWNER"
  | "HV_PLUGIN_CONTRACT";

/** A guest image cannot be loaded: truncated, of another kind, without a Xen note, ... */
export class ImageError extends HookvisorError {
  constructor(message: string) {
    super("HV_IMAGE", message);
  }
}

/** A domain's configuration, a command line or a config file is wrong. */
export class ConfigError extends HookvisorError {
  constructor(message: string, options?: ErrorOptions) {
    super("HV_CONFIG", message, options);
  }
}

/** What went wrong, of anything that can be thrown: it may be no error, and its own methods may throw. */
export function messageOf(thrown: unknown): string {
  try {
    return thrown instanceof Error ? String(thrown.message) : String(thrown);
  } catch {
    return "something that cannot be shown";
  }
}

/**
 * Where a plugin's error comes from: file and line of the first frame of its stack that lies outside core, such as `plugins/x/plugin.ts:12`;
 * a file that is not beside core by its whole path. undefined: what was thrown does not say.
 */
export function placeOf(thrown: unknown): string | undefined {
  try {
    const stack: unknown = thrown instanceof Error ? thrown.stack : undefined;
    if (typeof stack !== "string") return undefined;
    const core = pathOf(new URL(".", import.meta.url).href);
    const project = pathOf(new URL("..", import.meta.url).href);
    for (const line of stack.split("\n")) {
      const frame = /^ {4}at (?:.* \()?((?:file:\/\/)?\/[^()]*?):(\d+):\d+\)?$/.exec(line);
      const file = pathOf(frame?.[1] ?? "");
      if (file !== "" && !file.startsWith(core))
        return `${file.startsWith(project) ? file.slice(project.length) : file}:${frame![2]}`;
    }
  } catch {
    // A stack may be anything, and whoever reads it is in the middle of an ejection.
  }
  return undefined;
}

/** The path of a file's URL; a path stays as it is. */
function pathOf(file: string): string {
  return file.startsWith("file://") ? decodeURIComponent(new URL(file).pathname) : file;
}
