// On every page: times in the viewer's zone, the age of the data, and what needs JavaScript.

import "./connection.js";

document.documentElement.classList.add("js");
