/**
 * lib-image: kernels in all their wrappings, and initial ramdisks, for toolstacks and tests. A library: it has no plugin of its own.
 */
export { isBzImage, payloadOf, unpackBzImage } from "./bzimage.ts";
export { type CpioEntry, CpioTree } from "./cpio.ts";
export { type Compression, compressionOf, decompress } from "./decompress.ts";
export { INIT, PROFILE, UDHCPC_SCRIPT } from "./init.ts";
export { type InitramfsFile, type InitramfsOptions, makeInitramfs } from "./initramfs.ts";
export { isDeb, kernelOfDeb, readKernel, unpackKernel } from "./kernel.ts";
export { unpackLz4Legacy } from "./lz4.ts";
export { loadOrder, type ModuleInfo, moduleInfo, moduleName } from "./modules.ts";
export { unpackXz } from "./xz.ts";
