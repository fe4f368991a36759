// The workers: kept up to date.

import { liveParts } from "./live.js";

liveParts(["workers"], { every: 2000 });
