/** Classes of advisory locks: four ASCII letters each. The second number of a lock is a pipeline's or worker's id. */
export const GATE_CLASS = 0x656d6267; // 'embg'
export const PRESENCE_CLASS = 0x656d6270; // 'embp'
export const CLAIM_CLASS = 0x656d6263; // 'embc'
export const INDEX_CLASS = 0x656d6269; // 'embi'
export const USAGE_CLASS = 0x656d6275; // 'embu'
export const SWITCH_CLASS = 0x656d6278; // 'embx'
