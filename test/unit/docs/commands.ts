/** Every command line of the documentation: run by `run-commands.test.ts`, or not, and why. */

/** In this order, on a database without embedd. */
export const RUN: readonly string[] = [
  "export DATABASE_URL=postgres://me@localhost:5432/app",
  "embedd migrate",
  `psql "$DATABASE_URL" -c 'create table docs (id bigint generated always as identity primary key, body text)'`,
  "embedd watch docs --content body --create-columns",
  "embedd run",
  "embedd status",
  "embedd doctor",
  "embedd failures --table docs --dead",
  "embedd retry --table docs --key 42",
  "embedd pause docs",
  "embedd resume docs",
  "embedd estimate --table docs",
  "embedd estimate --stale",
  "embedd reembed",
];

const INSTALLS = "installs from the registry; .ci/run does it";
const IS_THE_TESTS = "runs the tests; .ci/run does it";
const NEEDS_A_KEY = "needs a key and the network; api-provider.test.ts runs it against a local server";
const ASKS = "needs a table that is not watched, or other columns; test/db/cli/watch.test.ts runs it";
const MEASURES = "takes minutes, and its numbers belong to one machine";
const MUTATIONS = "takes minutes, and runs these tests";
const SOAK = "test/faults/soak/soak.test.ts runs it for a shorter time";
const FAULTS = "takes minutes; test/faults has short runs of the same program";

/** Command line to reason. */
export const NOT_RUN: Readonly<Record<string, string>> = {
  "npm ci": INSTALLS,
  "npm ci && npm run demo": INSTALLS,
  "npm ci && npm test": IS_THE_TESTS,
  "npm test": IS_THE_TESTS,
  "npm run build": "compiles to dist, which the running tests import",
  "npm run build && node .ci/install-matrix.mjs": "installs from the registry, in twelve ways; minutes",
  "npm run build && node .ci/package.mjs": "installs from the registry; .ci/run does it",
  "npm run demo": "embeds 360 texts with the model, half a minute on a busy machine",
  "npx vitest run --config test/vitest.config.ts test/unit/config.test.ts": IS_THE_TESTS,
  'npx vitest run --config test/vitest.config.ts test/db -t "pause"': IS_THE_TESTS,
  "TEST_DATABASE_URL=postgres://postgres@127.0.0.1:5432/postgres npm test": IS_THE_TESTS,
  "sudo bash .ci/install-postgresql.sh": "installs packages as root; .ci/run does it",
  "EMBEDD_PROVIDER=github GITHUB_TOKEN=… embedd run": NEEDS_A_KEY,
  "EMBEDD_PROVIDER=openai OPENAI_API_KEY=… embedd run": NEEDS_A_KEY,
  "embedd switch-model docs --model text-embedding-3-small --dimensions 1536":
    "waits for a worker of that model; test/server/cli/switch-model.test.ts runs it with both workers",
  "embedd watch docs --content body --existing refresh": ASKS,
  "embedd watch docs --content body --existing keep": ASKS,
  "embedd watch docs --content title,body --template '{title}: {body}' --existing refresh": ASKS,
  "TEST_DATABASE_URL=postgres://postgres@127.0.0.1:5432/postgres npm run bench": MEASURES,
  "TEST_DATABASE_URL=postgres://postgres@127.0.0.1:5432/postgres npm run bench -- --quick --only latency":
    MEASURES,
  "TEST_DATABASE_URL=postgres://postgres@127.0.0.1:5432/postgres npm run bench -- --quick --only latency,trigger":
    MEASURES,
  "TEST_DATABASE_URL=postgres://postgres@127.0.0.1:5432/postgres node test/bench/two-workers.mjs": MEASURES,
  "npm run test:faults": FAULTS,
  "npm run test:faults -- --faults 1000 --seed 7 --workers 3": FAULTS,
  "npm run test:faults -- --faults 10000 --seed 1": FAULTS,
  "TEST_DATABASE_URL=postgres://postgres@127.0.0.1:5432/postgres npm run test:mutations": MUTATIONS,
  "TEST_DATABASE_URL=postgres://postgres@127.0.0.1:5432/postgres npm run test:mutations -- --only wake-loop":
    MUTATIONS,
  "npm run test:soak -- --minutes 60 --seed 7": SOAK,
  "npm run test:soak -- --minutes 5 --keep": SOAK,
  "TEST_DATABASE_URL=postgres://postgres@127.0.0.1:5432/postgres npm run test:order -- --runs 100 --seed 7":
    "takes minutes; test/server/order-of-steps.test.ts is its short form",
  "export DATABASE_URL='postgres://me@db.example.com:5432/app?sslmode=verify-full&sslrootcert=ca.pem'":
    "needs a server with TLS; test/faults/connect.test.ts connects like this to one of its own",
};

/** Documents whose commands are not run one by one, and why. They are parsed like all others. */
export const NOT_RUN_DOCUMENTS: Readonly<Record<string, string>> = {
  "docs/reference.md": "repeats the examples of each command's --help",
};
