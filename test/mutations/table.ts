import type { Mutation } from "./mutation.js";
import { ADMIN } from "./tables/admin.js";
import { CLAIM } from "./tables/claim.js";
import { CLI } from "./tables/cli.js";
import { CONFIG_MUTATIONS } from "./tables/config.js";
import { EMBED } from "./tables/embed.js";
import { OWNER_CODE } from "./tables/owner-code.js";
import { PROVIDERS } from "./tables/providers.js";
import { WAKE } from "./tables/wake.js";
import { WRITE } from "./tables/write.js";

/** All mutations, in the order of a row's path. */
export const MUTATIONS: readonly Mutation[] = [
  ...CONFIG_MUTATIONS,
  ...WAKE,
  ...CLAIM,
  ...EMBED,
  ...PROVIDERS,
  ...WRITE,
  ...ADMIN,
  ...OWNER_CODE,
  ...CLI,
];
