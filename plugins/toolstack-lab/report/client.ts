/**
 * What runs in the browser: draws the page's model. It is one function without a closure, whose source text goes into the page.
 *
 * Nothing of it runs in the hypervisor. Charts are ECharts'; tables and texts are plain elements. Invariants: text from the model is set
 * as text, never as markup; every chart has room of its own for legend, axes and slider, so that nothing overlaps at any width from 700 pixels up.
 */
import type { Curve, PageModel, RunModel, Table, Timeline } from "./model.ts";

/** The parts of a page that the script uses. Types of the browser are not part of this project's: these few are enough. */
interface Element {
  textContent: string;
  className: string;
  style: Record<string, string>;
  append(...children: (Element | string)[]): void;
}
interface Chart {
  setOption(option: unknown, replace?: boolean): void;
  resize(): void;
  on(event: string, listener: (event: unknown) => void): void;
  getOption(): { dataZoom: readonly { startValue: number; endValue: number }[] };
  getWidth(): number;
}
interface Browser {
  readonly document: {
    createElement(name: string): Element;
    getElementById(id: string): Element;
  };
  readonly echarts: { init(element: Element, theme: null, options: unknown): Chart };
  addEventListener(event: string, listener: () => void): void;
}

/** Draws the page. */
export function drawReport(browser: Browser, model: PageModel): void {
  const { document, echarts } = browser;
  const root = document.getElementById("report");
  const charts: Chart[] = [];
  const { comparison } = model;

  const make = (name: string, className: string, parent: Element, text = ""): Element => {
    const element = document.createElement(name);
    element.className = className;
    if (text !== "") element.textContent = text;
    parent.append(element);
    return element;
  };
  const colour = (index: number): string => {
    const palette = [
      "#3b6fb6",
      "#d9822b",
      "#4f9d69",
      "#b8475a",
      "#7d61a8",
      "#8a6d4b",
      "#3aa0a8",
      "#c2a22c",
      "#6b7a8f",
      "#c06fb0",
    ];
    return palette[index] ?? `hsl(${Math.round((index * 137.508) % 360)} 48% ${44 + (index % 3) * 9}%)`;
  };
  const time = (ns: number): string => {
    const size = Math.abs(ns);
    const short = (value: number): string => String(Number(value.toPrecision(6)));
    if (size >= 1e9) return `${short(ns / 1e9)} s`;
    if (size >= 1e6) return `${short(ns / 1e6)} ms`;
    if (size >= 1e3) return `${short(ns / 1e3)} us`;
    return `${short(ns)} ns`;
  };
  const table = (data: Table, parent: Element, mark?: (row: number) => string): void => {
    const box = make("div", "table", parent);
    const element = make("table", "", box);
    const head = make("tr", "", make("thead", "", element));
    for (const column of data.columns) make("th", "", head, column);
    const body = make("tbody", "", element);
    data.rows.forEach((cells, i) => {
      const row = make("tr", mark?.(i) ?? "", body);
      for (const cell of cells) make("td", "", row, cell);
    });
  };
  const section = (parent: Element, title: string, about = ""): Element => {
    const element = make("section", "", parent);
    make("h3", "", element, title);
    if (about !== "") make("p", "about", element, about);
    return element;
  };
  const chart = (parent: Element, height: number, option: unknown): Chart => {
    const box = make("div", "chart", parent);
    box.style["height"] = `${height}px`;
    const made = echarts.init(box, null, { renderer: "canvas" });
    made.setOption(option);
    charts.push(made);
    return made;
  };
  const text = { fontFamily: "system-ui, sans-serif", fontSize: 12 };
  const base = { animation: false, textStyle: text };

  /** A name that fits: what tells several of a kind apart stands at its end. */
  const brief = (name: string): string => (name.length > 32 ? `${name.slice(0, 20)}...${name.slice(-9)}` : name);

  const bar = (name: string, color: string, data: readonly number[]): unknown => ({
    type: "bar",
    name,
    itemStyle: { color },
    data,
    barMaxWidth: 12,
  });
  const bars = (parent: Element, full: readonly string[], unit: string, series: readonly unknown[]): void => {
    const names = full.map(brief);
    const longest = Math.max(...names.map((name) => name.length));
    const many = names.length > 24;
    const height = Math.min(names.length, 24) * 26 + 96;
    chart(parent, height, {
      ...base,
      grid: { left: Math.min(240, 16 + longest * 7), right: many ? 56 : 28, top: 34, bottom: 46 },
      legend: { top: 0, left: 0, type: "scroll" },
      tooltip: { trigger: "axis", axisPointer: { type: "shadow" } },
      xAxis: { type: "value", name: unit, nameLocation: "middle", nameGap: 28 },
      yAxis: {
        type: "category",
        inverse: true,
        data: names,
        axisLabel: { width: Math.min(220, longest * 7 + 4), overflow: "truncate" },
      },
      ...(many
        ? {
            dataZoom: [
              { type: "slider", yAxisIndex: 0, startValue: 0, endValue: 23, right: 6, width: 18, showDetail: false },
            ],
          }
        : {}),
      series,
    });
  };

  const curves = (
    parent: Element,
    all: readonly Curve[],
    x: { readonly name: string; readonly log: boolean },
    y: { readonly name: string; readonly max?: number },
    step: false | "end",
  ): void => {
    chart(parent, 340, {
      ...base,
      grid: { left: 64, right: 28, top: 40, bottom: 96 },
      legend: { top: 0, left: 0, right: 0, type: "scroll" },
      tooltip: {
        trigger: "axis",
        valueFormatter: (value: number) => String(value),
        axisPointer: { label: { formatter: (at: { value: number }) => time(at.value) } },
      },
      xAxis: {
        type: x.log ? "log" : "value",
        name: x.name,
        nameLocation: "middle",
        nameGap: 26,
        min: x.log ? 1 : 0,
        ...(x.log ? {} : { min: "dataMin", max: "dataMax" }),
        axisLabel: {
          formatter: (value: number) => time(value),
          hideOverlap: true,
          showMinLabel: x.log,
          showMaxLabel: false,
        },
      },
      yAxis: {
        type: "value",
        name: y.name,
        nameLocation: "middle",
        nameGap: 44,
        ...(y.max === undefined ? {} : { max: y.max }),
        min: 0,
      },
      dataZoom: [
        { type: "inside", filterMode: "none" },
        { type: "slider", bottom: 10, height: 22, filterMode: "none", labelFormatter: (value: number) => time(value) },
      ],
      series: all.map((curve) => ({
        type: "line",
        name: curve.name,
        step,
        showSymbol: false,
        itemStyle: { color: colour(curve.colour) },
        lineStyle: { width: 1.6, type: curve.dashed === true ? "dashed" : "solid" },
        data: curve.points,
      })),
    });
  };

  /** Draws what is in sight: runs narrower than half a pixel are put together, the one that ran longest gives its colour. */
  const timeline = (parent: Element, data: Timeline): void => {
    const lines = data.pcpus.length;
    const height = Math.min(900, Math.max(lines * 18, 72)) + 128;
    const left = 74;
    const visible = (from: number, to: number, width: number): number[][] => {
      const grain = (to - from) / Math.max(200, width * 2);
      const open: ({ start: number; end: number; vcpu: number; best: number } | null)[] = data.pcpus.map(() => null);
      const out: number[][] = [];
      const close = (line: number): void => {
        const one = open[line];
        if (one) out.push([line, one.start, one.end, one.vcpu]);
        open[line] = null;
      };
      for (let i = 0; i < data.start.length; i++) {
        const start = data.start[i]!;
        const length = data.length[i]!;
        const end = start + length;
        if (end < from || start > to) continue;
        const line = data.pcpu[i]!;
        const vcpu = data.vcpu[i]!;
        const one = open[line];
        if (
          one &&
          (one.end - one.start < grain || length < grain) &&
          start - one.end < grain &&
          start - one.start < grain
        ) {
          one.end = Math.max(one.end, end);
          if (length > one.best) {
            one.best = length;
            one.vcpu = vcpu;
          }
          continue;
        }
        close(line);
        open[line] = { start, end, vcpu, best: length };
      }
      for (let line = 0; line < lines; line++) close(line);
      return out;
    };
    const draw = (
      _params: unknown,
      api: { value(i: number): number; coord(at: number[]): number[]; size(of: number[]): number[] },
    ): unknown => {
      const [x = 0, y = 0] = api.coord([api.value(1), api.value(0)]);
      const [end = 0] = api.coord([api.value(2), api.value(0)]);
      const tall = Math.max(2, (api.size([0, 1])[1] ?? 4) * 0.78);
      const domain = data.vcpus[api.value(3)]?.domain ?? 0;
      return {
        type: "rect",
        shape: { x, y: y - tall / 2, width: Math.max(0.5, end - x), height: tall },
        style: { fill: colour(domain) },
      };
    };
    const series = (from: number, to: number, width: number): unknown => ({
      type: "custom",
      name: "runs",
      clip: true,
      progressive: 0,
      encode: { x: [1, 2], y: 0 },
      renderItem: draw,
      data: visible(from, to, width),
      markLine: {
        silent: false,
        symbol: "none",
        lineStyle: { color: "#a33", type: "dashed" },
        label: { show: false },
        data: data.marks.map((mark) => ({ xAxis: mark.at, name: mark.text })),
      },
    });
    const made = chart(parent, height, {
      ...base,
      grid: { left, right: 28, top: 10, bottom: 100 },
      tooltip: {
        formatter: (at: { value?: number[]; name?: string; seriesType?: string }) => {
          const value = at.value;
          if (!Array.isArray(value)) return at.name ?? "";
          const vcpu = data.vcpus[value[3]!]!;
          const escaped = vcpu.name.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
          return `${escaped}<br>${data.pcpus[value[0]!]}, from ${time(data.from + value[1]!)} for ${time(value[2]! - value[1]!)}`;
        },
      },
      xAxis: {
        type: "value",
        min: 0,
        max: data.to,
        name: "virtual time",
        nameLocation: "middle",
        nameGap: 26,
        axisLabel: { formatter: (value: number) => time(data.from + value), hideOverlap: true },
      },
      yAxis: { type: "category", inverse: true, data: data.pcpus },
      dataZoom: [
        { type: "inside", filterMode: "none", minValueSpan: 1000 },
        {
          type: "slider",
          bottom: 14,
          height: 24,
          filterMode: "none",
          minValueSpan: 1000,
          showDataShadow: false,
          labelFormatter: (value: number) => time(data.from + value),
        },
      ],
      series: [series(0, data.to, 1000)],
    });
    made.on("datazoom", () => {
      const zoom = made.getOption().dataZoom[0];
      if (zoom === undefined) return;
      made.setOption({ series: [series(zoom.startValue, zoom.endValue, made.getWidth() - left)] });
    });
    const domains = new Map<number, string>();
    for (const vcpu of data.vcpus)
      if (!domains.has(vcpu.domain)) domains.set(vcpu.domain, vcpu.name.replace(/ vCPU \d+$/, ""));
    const key = make("div", "key", parent);
    for (const [domain, name] of [...domains].slice(0, 40)) {
      const item = make("span", "", key);
      make("i", "", item).style["background"] = colour(domain);
      item.append(name);
    }
    if (domains.size > 40) make("span", "", key, `and ${domains.size - 40} more`);
  };

  const shares = (parent: Element, run: RunModel): void => {
    const several = run.shares.some((one) => one.most > one.least);
    const whisker = (_params: unknown, api: { value(i: number): number; coord(at: number[]): number[] }): unknown => {
      const [low = 0, y = 0] = api.coord([api.value(1), api.value(0)]);
      const [high = 0] = api.coord([api.value(2), api.value(0)]);
      const line = (x1: number, y1: number, x2: number, y2: number): unknown => ({
        type: "line",
        shape: { x1, y1, x2, y2 },
        style: { stroke: "#222", lineWidth: 1.2 },
      });
      return {
        type: "group",
        children: [line(low, y, high, y), line(low, y - 4, low, y + 4), line(high, y - 4, high, y + 4)],
      };
    };
    bars(
      parent,
      run.shares.map((one) => one.name),
      "per cent of the CPU time given",
      [
        bar(
          "got",
          "#3b6fb6",
          run.shares.map((one) => one.got),
        ),
        bar(
          "entitled to",
          "#c9d3e0",
          run.shares.map((one) => one.entitled),
        ),
        ...(several
          ? [
              {
                type: "custom",
                name: "least and most of the runs",
                itemStyle: { color: "#222" },
                renderItem: whisker,
                encode: { x: [1, 2], y: 0 },
                data: run.shares.map((one, i) => [i, one.least, one.most]),
                z: 10,
              },
            ]
          : []),
      ],
    );
  };

  const wakes = (parent: Element, all: readonly Curve[]): void => {
    const about = "Part of the wake-ups (their number in brackets) that ran within so long. 1 ns stands for at once.";
    const axis = { name: "from runnable to running", log: true };
    if (all.length > 0)
      curves(section(parent, "Wake-up latency", about), all, axis, { name: "per cent", max: 100 }, "end");
  };
  const preemptions = (parent: Element, all: readonly Curve[]): void => {
    const about = "Part of the preemptions after which the vCPU ran again within so long.";
    const axis = { name: "from losing the pCPU to running again", log: true };
    if (all.length > 0)
      curves(section(parent, "Wait after a preemption", about), all, axis, { name: "per cent", max: 100 }, "end");
  };
  /** Curves of both sides in one chart: A's as they are, B's dashed. */
  const together = (pick: (run: RunModel) => readonly Curve[]): Curve[] =>
    model.runs.flatMap((run, i) =>
      pick(run).map((curve) => ({ ...curve, name: `${"AB"[i] ?? i}: ${curve.name}`, dashed: i > 0 })),
    );

  const runSections = (parent: Element, run: RunModel): void => {
    const facts = make("dl", "facts", parent);
    for (const [name, value] of run.facts) {
      make("dt", "", facts, name);
      make("dd", "", facts, value);
    }
    for (const fault of run.faults) make("p", "fault", parent, fault);
    for (const note of run.notes) make("p", "note", parent, note);
    table(run.figures, section(parent, "Figures", run.figures.columns.length > 2 ? "Over all runs." : ""));
    shares(
      section(
        parent,
        "CPU share against entitlement",
        "Medians over the runs; entitlement follows from weights and caps, or is the experiment's own.",
      ),
      run,
    );
    if (run.timeline !== null) {
      const { seed, whole, from, to } = run.timeline;
      const about = `What each pCPU ran, seed ${seed}. Scroll or drag the slider to zoom in.${whole ? "" : ` Shown are the first ${time(to)} after ${time(from)}: more runs than fit into a page follow; --perfetto writes all of them.`}${run.timeline.marks.length > 0 ? " Dashed lines are changes made by the experiment." : ""}`;
      timeline(section(parent, "Timeline of the pCPUs", about), run.timeline);
    }
    if (run.shareOverTime.length > 0)
      curves(
        section(parent, "CPU share over time", "Of all pCPU time, the first run."),
        run.shareOverTime,
        { name: "virtual time", log: false },
        { name: "per cent" },
        false,
      );
    // Of a comparison they are above, in one chart for both sides.
    if (comparison === null) {
      wakes(parent, run.wake);
      preemptions(parent, run.preemption);
    }
    const late = run.misses.filter((one) => one.missed > 0).sort((a, b) => b.tardiness - a.tardiness);
    if (run.misses.length > 0 && late.length === 0)
      section(
        parent,
        "Deadlines missed",
        `None, of ${run.misses
          .map((one) => brief(one.name))
          .slice(0, 8)
          .join(", ")}${run.misses.length > 8 ? ` and ${run.misses.length - 8} more` : ""}.`,
      );
    if (late.length > 0)
      bars(
        section(
          parent,
          "Deadlines missed",
          `How late the latest job was: ${late
            .map((one) => `${brief(one.name)} ${time(one.tardiness)}`)
            .slice(0, 8)
            .join(", ")}.`,
        ),
        run.misses.map((one) => one.name),
        "per cent of the jobs with a deadline",
        [
          bar(
            "missed",
            "#b8475a",
            run.misses.map((one) => one.missed),
          ),
        ],
      );
    bars(
      section(parent, "Switches and migrations"),
      run.movement.map((one) => one.name),
      "a second",
      [
        bar(
          "put on a pCPU",
          "#6b7a8f",
          run.movement.map((one) => one.switches),
        ),
        bar(
          "on another than before",
          "#d9822b",
          run.movement.map((one) => one.migrations),
        ),
      ],
    );
    if (run.energy.length > 0)
      bars(
        section(parent, "Energy", "By the model of lib-energy."),
        run.energy.map((one) => one.name),
        "J",
        [
          bar(
            "energy",
            "#4f9d69",
            run.energy.map((one) => one.joules),
          ),
        ],
      );
    if (run.frequency.length > 0)
      curves(
        section(parent, "Rates of the pCPUs"),
        run.frequency,
        { name: "virtual time", log: false },
        { name: "MHz" },
        "end",
      );
    table(
      run.domains,
      section(
        parent,
        "Domains",
        `${run.figures.columns.length > 2 ? "Medians over the runs. " : ""}Behind: the most CPU time by which it lagged behind what it was entitled to. Latest: how late its latest job was.`,
      ),
    );
  };

  make("h1", "", root, model.title);
  make("code", "command", root, model.command);
  make("p", "about", root, model.versions);
  if (comparison !== null) {
    make("h2", "", root, "A and B");
    make(
      "p",
      "about",
      root,
      `A is ${comparison.a}, B is ${comparison.b}; runs of the same seed are paired: ${comparison.seeds}. Intervals are 95% bootstrap intervals of the mean difference B - A.`,
    );
    for (const line of comparison.exceeded) make("p", "fault", root, line);
    const shown = comparison.differences.filter((one) => one.value !== 0 || one.low !== 0 || one.high !== 0);
    if (shown.length > 0) {
      // A difference is at most 200 per cent of the larger of two figures; only an interval can be wider.
      const widest = Math.max(5, ...shown.map((one) => Math.max(Math.abs(one.low), Math.abs(one.high))));
      const limit = Math.min(150, Math.ceil(widest / 10) * 10);
      const tone = (verdict: string): string =>
        verdict === "better" ? "#4f9d69" : verdict === "worse" ? "#b8475a" : "#6b7a8f";
      const cut = (value: number): number => Math.max(-limit, Math.min(limit, value));
      const mark = (_params: unknown, api: { value(i: number): number; coord(at: number[]): number[] }): unknown => {
        const [low = 0, y = 0] = api.coord([api.value(2), api.value(0)]);
        const [high = 0] = api.coord([api.value(3), api.value(0)]);
        const [x = 0] = api.coord([api.value(1), api.value(0)]);
        const fill = tone(shown[api.value(0)]?.verdict ?? "");
        return {
          type: "group",
          children: [
            { type: "line", shape: { x1: low, y1: y, x2: high, y2: y }, style: { stroke: fill, lineWidth: 2 } },
            { type: "circle", shape: { cx: x, cy: y, r: 4 }, style: { fill } },
          ],
        };
      };
      const parent = section(
        root,
        "Differences, in per cent of the larger of A and B",
        `Left of the middle B is less, right of it B is more. Green is better, red is worse, grey is no difference or neither.${widest > limit ? ` Intervals that are wider than ${limit}% end at the edge.` : ""}`,
      );
      const longest = Math.max(...shown.map((one) => one.name.length));
      chart(parent, shown.length * 22 + 80, {
        ...base,
        grid: { left: Math.min(330, 20 + longest * 6.6), right: 28, top: 10, bottom: 50 },
        tooltip: {
          formatter: (at: { dataIndex: number }) => {
            const one = shown[at.dataIndex]!;
            return `${one.name}: ${one.value}% (${one.low}% to ${one.high}%)`;
          },
        },
        xAxis: {
          type: "value",
          min: -limit,
          max: limit,
          name: "B - A, per cent of the larger",
          nameLocation: "middle",
          nameGap: 28,
          axisLabel: { hideOverlap: true },
        },
        yAxis: {
          type: "category",
          inverse: true,
          data: shown.map((one) => one.name),
          axisLabel: { interval: 0, width: Math.min(310, longest * 6.6 + 4), overflow: "truncate" },
        },
        series: [
          {
            type: "custom",
            renderItem: mark,
            encode: { x: [1, 2, 3], y: 0 },
            data: shown.map((one, i) => [i, cut(one.value), cut(one.low), cut(one.high)]),
          },
        ],
      });
    }
    table(
      comparison.table,
      section(root, "Figures"),
      (row) => `verdict-${(comparison.verdicts[row] ?? "").replace(" ", "-")}`,
    );
    wakes(
      root,
      together((run) => run.wake),
    );
    preemptions(
      root,
      together((run) => run.preemption),
    );
  }
  model.runs.forEach((run, i) => {
    if (model.runs.length > 1) make("h2", "", root, `${"AB"[i] ?? i}: ${run.title}`);
    runSections(root, run);
  });
  browser.addEventListener("resize", () => {
    for (const one of charts) one.resize();
  });
}
