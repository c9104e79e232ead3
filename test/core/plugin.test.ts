/**
 * The plugin contract and the hook table: every error text that a plugin author can meet, as a snapshot; one provider a key; sealing.
 */
import { describe, expect, test } from "vitest";
import { HookvisorError, PluginError } from "../../core/errors.ts";
import { createHooks, hookTable, provide, providers, sealHooks } from "../../core/hooks.ts";
import { Hypervisor } from "../../core/hypervisor.ts";
import {
  API_VERSION,
  definePlugin,
  type LoadedPlugin,
  orderPlugins,
  type Plugin,
  validatePlugin,
} from "../../core/plugin.ts";
import type { Scheduler } from "../../core/scheduling/scheduler.ts";
import { MemoryHost } from "../support/scripted-frontend.ts";

function errorOf(body: () => unknown): PluginError {
  try {
    body();
  } catch (error) {
    if (error instanceof PluginError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

function text(body: () => unknown): string {
  const { code, message } = errorOf(body);
  return `${code}: ${message}`;
}

function loaded(name: string, rest: Partial<Plugin> = {}): LoadedPlugin {
  return { plugin: { name, api: "^1.0.0", apply: () => {}, ...rest }, source: `./${name}.ts` };
}

function hypervisor(...plugins: LoadedPlugin[]): Hypervisor {
  return new Hypervisor({ plugins, services: new MemoryHost() });
}

describe("plugins", () => {
  test("a good one passes unchanged", () => {
    const plugin = definePlugin({ name: "scheduler-mine", api: `^${API_VERSION}`, apply: () => {} });
    expect(validatePlugin(plugin, "here")).toBe(plugin);
  });

  test("each error says what was expected and what was got", () => {
    const good = { name: "mine", api: "^1.0.0", apply: () => {} };
    const wrong: readonly unknown[] = [
      undefined,
      null,
      () => {},
      [],
      {},
      { ...good, name: 7 },
      { ...good, name: "My Plugin" },
      { ...good, apply: undefined },
      { ...good, apply: "later" },
      { ...good, api: undefined },
      { ...good, api: "newest" },
      { ...good, api: "^2.0.0" },
      { ...good, api: "0.x" },
      { ...good, requires: "other" },
      { ...good, requires: [1] },
    ];
    expect(wrong.map((value) => text(() => validatePlugin(value, "./mine.ts")))).toMatchInlineSnapshot(`
      [
        "HV_PLUGIN_NOT_OBJECT: Plugin ./mine.ts: expected a default export made by definePlugin({ name, api, apply }), got nothing.",
        "HV_PLUGIN_NOT_OBJECT: Plugin ./mine.ts: expected a default export made by definePlugin({ name, api, apply }), got null.",
        "HV_PLUGIN_NOT_OBJECT: Plugin ./mine.ts: expected a default export made by definePlugin({ name, api, apply }), got a function.",
        "HV_PLUGIN_NOT_OBJECT: Plugin ./mine.ts: expected a default export made by definePlugin({ name, api, apply }), got an array.",
        "HV_PLUGIN_NAME: Plugin ./mine.ts: expected 'name' to be a lower-case name such as 'scheduler-mine', got nothing.",
        "HV_PLUGIN_NAME: Plugin ./mine.ts: expected 'name' to be a lower-case name such as 'scheduler-mine', got a number.",
        "HV_PLUGIN_NAME: Plugin ./mine.ts: expected 'name' to be a lower-case name such as 'scheduler-mine', got "My Plugin".",
        "HV_PLUGIN_NO_APPLY: Plugin 'mine' (./mine.ts): expected an apply(hypervisor) function, got nothing.",
        "HV_PLUGIN_NO_APPLY: Plugin 'mine' (./mine.ts): expected an apply(hypervisor) function, got "later".",
        "HV_PLUGIN_API_RANGE: Plugin 'mine' (./mine.ts): expected 'api' to be a semver range such as '^1.0.0', got nothing.",
        "HV_PLUGIN_API_RANGE: Plugin 'mine' (./mine.ts): expected 'api' to be a semver range such as '^1.0.0', got "newest".",
        "HV_PLUGIN_API_VERSION: Plugin 'mine' (./mine.ts) expects plugin API '^2.0.0', this hookvisor offers 1.0.0; use a version of the plugin that was written for it.",
        "HV_PLUGIN_API_VERSION: Plugin 'mine' (./mine.ts) expects plugin API '0.x', this hookvisor offers 1.0.0; use a version of the plugin that was written for it.",
        "HV_PLUGIN_REQUIRES: Plugin 'mine' (./mine.ts): expected 'requires' to be a list of plugin names, got "other".",
        "HV_PLUGIN_REQUIRES: Plugin 'mine' (./mine.ts): expected 'requires' to be a list of plugin names, got an array.",
      ]
    `);
  });

  test("they are applied after what they require, else as given", () => {
    const names = (plugins: readonly LoadedPlugin[]): string[] => orderPlugins(plugins).map((l) => l.plugin.name);
    expect(names([loaded("a", { requires: ["c"] }), loaded("b"), loaded("c")])).toEqual(["c", "a", "b"]);
    expect(names([loaded("c"), loaded("a"), loaded("b")])).toEqual(["c", "a", "b"]);
  });

  test("errors of the set as a whole", () => {
    expect([
      text(() => orderPlugins([loaded("a"), { ...loaded("a"), source: "./other.ts" }])),
      text(() => orderPlugins([loaded("a", { requires: ["b"] })])),
      text(() =>
        orderPlugins([
          loaded("a", { requires: ["b"] }),
          loaded("b", { requires: ["c"] }),
          loaded("c", { requires: ["b"] }),
        ]),
      ),
    ]).toMatchInlineSnapshot(`
      [
        "HV_PLUGIN_DUPLICATE: Plugin 'a' is loaded twice, from ./a.ts and from ./other.ts; load it once.",
        "HV_PLUGIN_REQUIRES: Plugin 'a' (./a.ts) requires plugin 'b', which is not loaded; load it too.",
        "HV_PLUGIN_REQUIRES: Plugins require one another in a circle: b -> c -> b; break it.",
      ]
    `);
  });

  test("errors of applying", () => {
    const tap = (name: string): LoadedPlugin =>
      loaded(name, { apply: (h) => void h.hooks.scheduler.for("best").tap(name, () => ({}) as Scheduler) });
    expect([
      text(() =>
        hypervisor(
          loaded("clumsy", {
            apply: () => {
              throw new TypeError("x is undefined");
            },
          }),
        ),
      ),
      text(() => hypervisor(tap("first"), tap("second"))),
      text(() => {
        const publish = (name: string): LoadedPlugin =>
          loaded(name, { apply: (h) => (h.ownHooks as (owner: string, hooks: unknown) => void)("shared", {}) });
        hypervisor(publish("first"), publish("second"));
      }),
    ]).toMatchInlineSnapshot(`
      [
        "HV_PLUGIN_APPLY: Plugin 'clumsy' (./clumsy.ts) failed in apply(): x is undefined.",
        "HV_PROVIDER_TAKEN: Plugin 'second' provides scheduler 'best', which plugin 'first' already provides; remove one of the two or rename the key.",
        "HV_HOOKS_OWNER: The hooks of 'shared' are published twice; one plugin owns them.",
      ]
    `);
  });

  test("errors are HookvisorErrors with the plugin's name", () => {
    const error = errorOf(() => orderPlugins([loaded("a", { requires: ["b"] })]));
    expect(error).toBeInstanceOf(HookvisorError);
    expect(error.plugin).toBe("a");
    expect(error.name).toBe("PluginError");
  });
});

describe("hooks", () => {
  test("the table lists exactly the hooks that there are, and nobody can change it", () => {
    expect(Object.keys(createHooks()).sort()).toEqual(Object.keys(hookTable).sort());
    expect(Object.isFrozen(hookTable)).toBe(true);
    expect(Object.isFrozen(createHooks())).toBe(true);
  });

  test("a provider is found by its key, with its plugin's name", () => {
    const hooks = createHooks();
    const scheduler = {} as Scheduler;
    hooks.scheduler.for("mine").tap("scheduler-mine", () => scheduler);
    expect(providers(hooks.scheduler)).toEqual([{ key: "mine", plugin: "scheduler-mine" }]);
    expect(provide(hooks.scheduler, "scheduler", "mine", null as never)).toEqual({
      value: scheduler,
      plugin: "scheduler-mine",
    });
  });

  test("errors of finding one", () => {
    const hooks = createHooks();
    const none = text(() => provide(hooks.scheduler, "scheduler", "credit", null as never));
    hooks.scheduler.for("mine").tap("scheduler-mine", () => undefined as never);
    hooks.scheduler.for("other").tap("scheduler-other", () => ({}) as Scheduler);
    expect([
      none,
      text(() => provide(hooks.scheduler, "scheduler", "credit", null as never)),
      text(() => provide(hooks.scheduler, "scheduler", "mine", null as never)),
    ]).toMatchInlineSnapshot(`
      [
        "HV_PROVIDER_MISSING: No plugin provides scheduler 'credit'; none is loaded.",
        "HV_PROVIDER_MISSING: No plugin provides scheduler 'credit'; there are: mine, other.",
        "HV_PLUGIN_CONTRACT: Plugin 'scheduler-mine' was asked for scheduler 'mine' and returned nothing; its tap must return the scheduler.",
      ]
    `);
  });

  test("asking for a key that nobody provides does not make one", () => {
    const hooks = createHooks();
    errorOf(() => provide(hooks.deviceType, "device type", "vif"));
    expect(providers(hooks.deviceType)).toEqual([]);
  });

  test("after boot a tap is refused, and what was tapped before still works", async () => {
    const hooks = createHooks();
    let booted = 0;
    hooks.boot.tap("early", () => void booted++);
    hooks.scheduler.for("mine").tap("early", () => ({}) as Scheduler);
    sealHooks(hooks);
    const refused = text(() => hooks.boot.tap("late", () => {}));
    expect(refused).toMatchInlineSnapshot(
      `"HV_HOOKS_SEALED: Plugin 'late' taps a hook after boot; hooks are sealed then, so tap them in apply()."`,
    );
    expect(text(() => hooks.contextSwitch.tap("late", () => {}))).toBe(refused);
    expect(text(() => hooks.scheduler.for("mine").tap("late", () => ({}) as Scheduler))).toBe(refused);
    expect(hooks.eventSend.isUsed()).toBe(false);
    expect(text(() => hooks.scheduler.for("new").tap("late", () => ({}) as Scheduler))).toBe(refused);
    await hooks.boot.promise();
    expect(booted).toBe(1);
    expect(provide(hooks.scheduler, "scheduler", "mine", null as never).plugin).toBe("early");
  });
});

test("a machine boots under the scheduler that it is given: core knows none", async () => {
  const hypervisor = new Hypervisor({ plugins: [], services: new MemoryHost() });
  await expect(hypervisor.boot({})).rejects.toThrow(
    "The machine has no scheduler; name one, or its cpupools with theirs.",
  );
});
