/** Entry of a worker thread: makes `hookvisor` mean this core in this thread too, then does runs (worker-main.ts). */
import { installResolution } from "../../../core/node/resolve.ts";

installResolution();
await import("./worker-main.ts");
