import {openEmbedded} from "/work/main/dist/embedded/index.js";
const s=await openEmbedded({}); console.log(s.connectionString); setTimeout(()=>s.stop(),100000);
