/** Classes of advisory locks: four ASCII letters each. The second number of a lock is a pipeline's or worker's id. */
export const GATE_CLASS = 0x656d6267; // 'embg'
export const PRESENCE_CLASS = 0x656d6270; // 'embp'
