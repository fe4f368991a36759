// The workers: kept up to date.

import { liveParts } from "./live.js";

liveParts(["cluster", "workers"], { every: 2000 });
