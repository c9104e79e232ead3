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
