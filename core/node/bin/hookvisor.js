#!/usr/bin/env node
/*
 * The command `hookvisor`: checks Node's version, then runs the sources where they are, else the built files.
 *
 * Plain JavaScript without anything that an old Node cannot parse, so that an old Node says one clear sentence. In a clone
 * the development dependency `node` (npm) stands in for a Node that is too old. Sources win over dist/: a dist/ left from an
 * earlier build never runs in a clone.
 */
// biome-ignore-all lint/style/useNodejsImportProtocol: an old Node does not know it
var NEEDED = 24;

function fail(error) {
  console.error("hookvisor:", process.env.HOOKVISOR_DEBUG ? error.stack : error.message);
  process.exitCode = 1;
}

function tooOld() {
  console.error(
    "hookvisor needs Node.js " +
      NEEDED +
      " or newer and this is " +
      process.version +
      "; install a newer one from https://nodejs.org, or run `npm ci` in a clone of hookvisor, which brings one along.",
  );
  process.exitCode = 1;
}

/* The Node of npm's package `node` in the clone that this file belongs to, if there is one. */
function runWith(fs, path, child) {
  var self = fs.realpathSync(process.argv[1]);
  var node = path.join(path.dirname(self), "..", "..", "..", "node_modules", "node", "bin", "node");
  if (!fs.existsSync(node)) return tooOld();
  var run = child.spawn(node, [self].concat(process.argv.slice(2)), {
    stdio: "inherit",
    env: Object.assign({}, process.env, { HOOKVISOR_REEXEC: "1" }),
  });
  /* The terminal sends these to the whole process group: the child decides what they mean. */
  process.on("SIGINT", () => {});
  ["SIGTERM", "SIGHUP"].forEach((signal) => {
    process.on(signal, () => {
      run.kill(signal);
    });
  });
  run.on("error", fail);
  run.on("exit", (code, signal) => {
    if (signal) {
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    } else process.exitCode = code;
  });
}

function old() {
  if (process.env.HOOKVISOR_REEXEC) return tooOld();
  Promise.all([import("fs"), import("path"), import("child_process")]).then((m) => {
    runWith(m[0].default, m[1].default, m[2].default);
  }, tooOld);
}

/* The sources need nothing but their types left out, which Node does by itself, from 24.3 on without a warning. */
function runsTypeScript() {
  var version = process.versions.node.split(".").map(Number);
  return process.features.typescript && (version[0] > 24 || version[1] >= 3);
}

function start() {
  Promise.all([import("node:fs"), import("node:path"), import("node:url"), import("node:module")])
    .then((m) => {
      var here = m[1].dirname(m[0].realpathSync(process.argv[1]));
      var root = m[1].join(here, "..", "..", "..");
      var sources = m[1].join(root, "core", "node", "main.ts");
      var built = m[1].join(root, "dist", "core", "node", "main.js");
      if (m[3].enableCompileCache) m[3].enableCompileCache();
      if (!m[0].existsSync(sources)) return import(m[2].pathToFileURL(built).href);
      if (runsTypeScript()) return import(m[2].pathToFileURL(sources).href);
      return import("tsx/esm/api").then((tsx) => {
        tsx.register();
        return import(m[2].pathToFileURL(sources).href);
      });
    })
    .then((main) => main.main(process.argv.slice(2)))
    .then((code) => {
      process.exitCode = code;
    })
    .catch(fail);
}

if (parseInt(process.versions.node, 10) >= NEEDED) start();
else old();
