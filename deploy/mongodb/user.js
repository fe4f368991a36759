// Once, on an empty volume: the user that the workers log in as. Migrations of other databases need their role here too.
db.getSiblingDB("admin").createUser({
  user: "whimbrel",
  pwd: process.env.WHIMBREL_PASSWORD,
  roles: [{ role: "readWrite", db: process.env.WHIMBREL_DATABASE }],
});
