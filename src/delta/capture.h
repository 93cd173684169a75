/*
 * capture.h
 *	  The names of what capture.c puts beside a table.
 */
#ifndef LH_CAPTURE_H
#define LH_CAPTURE_H

/* column of a table of old images: the load that replaced the row */
#define LH_CHANGED_COLUMN "_changed_load"

#endif							/* LH_CAPTURE_H */
