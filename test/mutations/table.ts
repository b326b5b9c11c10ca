import type { Mutation } from "./mutation.js";
import { WAKE } from "./tables/wake.js";

/** All mutations, in the order of a row's path. */
export const MUTATIONS: readonly Mutation[] = [...WAKE];
