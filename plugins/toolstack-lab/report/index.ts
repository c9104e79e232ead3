/**
 * The report: one self-contained HTML file, which needs no network and no other file.
 *
 * model.ts computes what is shown, client.ts draws it in the browser; the chart library (Apache ECharts) and the model are written into the page.
 * Invariant: equal data give equal bytes.
 */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import type { ReportData, RunReportData } from "../report-data.ts";
import { drawReport } from "./client.ts";
import { comparisonModel, type PageModel, runModel } from "./model.ts";

/** What the page is computed from. */
export function pageModel(data: ReportData): PageModel {
  const versions = `hookvisor ${data.versions.hookvisor}, Node ${data.versions.node}`;
  const { title, command } = data;
  if (data.kind === "run") return { title, command, versions, runs: [runModel(data)], comparison: null };
  const sides: readonly RunReportData[] = data.sides;
  return { title, command, versions, runs: sides.map(runModel), comparison: comparisonModel(data) };
}

/** Makes the page. */
export async function renderReport(data: ReportData): Promise<string> {
  const charts = await readFile(createRequire(import.meta.url).resolve("echarts/dist/echarts.min.js"), "utf8");
  const model = pageModel(data);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(model.title)}</title>
<style>${STYLE}</style>
</head>
<body>
<main id="report"></main>
<script>${inScript(charts)}</script>
<script id="model" type="application/json">${JSON.stringify(model).replaceAll("<", "\\u003c")}</script>
<script>
// Names that a compiler may wrap functions with.
var __name = function (f) { return f; };
(${inScript(drawReport.toString())})(window, JSON.parse(document.getElementById("model").textContent));
</script>
</body>
</html>
`;
}

/** Text that may stand in a script element: nothing in it ends the element. */
function inScript(text: string): string {
  return text.replaceAll(/<(?=\/script|!--|script)/gi, "\\u003c");
}

function escaped(text: string): string {
  return text.replaceAll(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}

const STYLE = `
body { margin: 0; background: #f6f7f9; color: #1d2530; font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 26px; margin: 8px 0; overflow-wrap: anywhere; }
h2 { font-size: 21px; margin: 36px 0 8px; padding-top: 16px; border-top: 2px solid #d5dbe3; overflow-wrap: anywhere; }
h3 { font-size: 16px; margin: 0 0 4px; }
section { background: #fff; border: 1px solid #e1e5ea; border-radius: 6px; padding: 14px 16px; margin: 16px 0; }
.command { display: block; overflow-x: auto; background: #1d2530; color: #e8edf3; border-radius: 6px; padding: 8px 12px; font-size: 13px; white-space: pre; }
.about, .note { color: #56616f; margin: 4px 0 10px; font-size: 13.5px; }
.fault { background: #fbe9ec; border-left: 4px solid #b8475a; padding: 6px 12px; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 12px 0; }
.facts dt { color: #56616f; } .facts dd { margin: 0; overflow-wrap: anywhere; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; width: 100%; }
th, td { text-align: right; padding: 3px 7px; white-space: nowrap; border-bottom: 1px solid #eceff3; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: #56616f; font-weight: 600; }
.verdict-better td:last-child { color: #2f7a4a; font-weight: 600; }
.verdict-worse td:last-child { color: #a93a4d; font-weight: 600; }
.chart { width: 100%; }
.key { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 12.5px; margin-top: 6px; }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 5px; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
`;
