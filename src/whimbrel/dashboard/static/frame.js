// On every page: times in the viewer's zone, the age of the data, the state of the cluster, and whether the server is there.

import "./connection.js";
import { liveParts } from "./live.js";

const EVERY = 2000; // milliseconds

if (document.querySelector('[data-part="cluster"]')) liveParts(["cluster"], { every: EVERY, url: "/dashboard/frame", data: false });
