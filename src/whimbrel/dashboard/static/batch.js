// One batch: kept up to date while it is not settled.

import { liveParts } from "./live.js";

liveParts(["batch"]);
