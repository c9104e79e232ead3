/** Energy of pCPUs and domains: models, and a meter that is fed with a trace's events. */
export { EnergyMeter, type EnergyMeterOptions, type EnergyReport, type Joules } from "./meter.ts";
export {
  type CubicFigures,
  cubicModel,
  DEFAULT_IDLE,
  type EnergyModel,
  type IdlePower,
  type VoltageFigures,
  voltageModel,
} from "./model.ts";
