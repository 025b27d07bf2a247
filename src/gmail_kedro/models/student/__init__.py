"""The student: adapters and heads in a copy of the teacher."""
