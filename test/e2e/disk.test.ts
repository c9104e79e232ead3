import { itWithImage } from "../tools/guest-image.ts";
import { writeAndReadBack } from "./disk.ts";

itWithImage(
  "debian",
  "4 MiB are written through Debian's blkfront, read back with the same sha256, and given up again (the long form: 64 MiB)",
  () => writeAndReadBack(4, 200_000),
  220_000,
);
