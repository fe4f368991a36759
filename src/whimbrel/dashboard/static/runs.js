// The list of runs.
import { liveParts } from "./live.js";

liveParts(["cluster", "active"]);
