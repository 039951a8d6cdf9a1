"""What a query says where it meets damage in our own tables; `runtime.faults` makes a TableError of it."""

DAMAGED = "damaged: "
MEND = "restore the table's folder from a backup, or remove it and its stage's receipt and run again"
