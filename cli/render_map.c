/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lsmap as VIOS prints it: a header and a line for the adapter, then a paragraph for
 * each of its VTDs.
 *
 * Labels are padded to VIOS's width, 22 columns. Behind VIOS's lines of a VTD come ours:
 * where it is to be found, and, when it is not served, why. A VTD whose adapter is not
 * there is listed under the name that it says.
 *
 * Names come as cmd/text.h writes them and are made safe for a terminal here.
 */
#include <stdio.h>
#include <string.h>

#include "cli/render.h"
#include "cmd/text.h"

static void print_safe(const json_t *object, const char *key, int width)
{
	char text[CLI_CELL_BYTES_MAX];
	int printed = 0;

	if (cmd_text_from_json(json_object_get(object, key), text, sizeof(text)) < 0)
		text[0] = '\0';
	for (const char *p = text; *p; p++, printed++)
		putchar((unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p);
	for (; printed < width; printed++)
		putchar(' ');
}

static void print_field(const char *label, const json_t *object, const char *key)
{
	printf("%-22s", label);
	print_safe(object, key, 0);
	putchar('\n');
}

static bool is_set(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text && text[0];
}

static void print_adapter(const json_t *adapter, bool first)
{
	printf("%s%-15s %-44s %s\n", first ? "" : "\n", "SVSA", "Physloc", "Client Partition ID");
	printf("--------------- -------------------------------------------- ------------------\n");
	print_safe(adapter, "svsa", 15);
	putchar(' ');
	print_safe(adapter, "physloc", 44);
	putchar(' ');
	if (is_set(adapter, "clientid"))
		print_safe(adapter, "clientid", 0);
	else
		printf("0x00000000");
	putchar('\n');
}

static void print_vtd(const json_t *vtd)
{
	putchar('\n');
	print_field("VTD", vtd, "vtd");
	print_field("Status", vtd, "status");
	print_field("LUN", vtd, "lun");
	print_field("Backing device", vtd, "backing");
	print_field("Physloc", vtd, "bdphysloc");
	print_field("Mirrored", vtd, "mirrored");
	if (is_set(vtd, "device"))
		print_field("Device", vtd, "device");
	if (is_set(vtd, "reason"))
		print_field("Reason", vtd, "reason");
	if (is_set(vtd, "who"))
		print_field("In use", vtd, "who");
	if (json_is_true(json_object_get(vtd, "shared")))
		printf("%-22syes\n", "Shared");
	if (json_is_true(json_object_get(vtd, "read_only")))
		printf("%-22syes\n", "Read-only");
}

/* The rows are in order of adapters. Return: how many belong to this one. */
static size_t print_vtds(const json_t *mappings, const char *adapter)
{
	const json_t *it;
	size_t i, count = 0;

	json_array_foreach(mappings, i, it) {
		if (strcmp(json_string_value(json_object_get(it, "svsa")), adapter) != 0)
			continue;
		print_vtd(it);
		count++;
	}
	if (count == 0)
		printf("\nVTD                   NO VIRTUAL TARGET DEVICE FOUND\n");
	return count;
}

/* Damaged metadata: the record of the adapter is lost, the VTDs are not. */
static void print_orphans(const json_t *adapters, const json_t *mappings)
{
	const json_t *it, *adapter;
	size_t i, j;

	json_array_foreach(mappings, i, it) {
		bool known = false;

		json_array_foreach(adapters, j, adapter)
			known |= json_equal(json_object_get(adapter, "svsa"), json_object_get(it, "svsa"));
		if (known)
			continue;
		print_adapter(it, false);
		print_vtd(it);
	}
}

bool cli_print_map(const json_t *result)
{
	const json_t *adapters = json_object_get(result, "adapters"), *mappings = json_object_get(result, "mappings");
	const json_t *it;
	size_t i, printed = 0;

	if (!mappings) /* -stat: a table */
		return false;
	json_array_foreach(adapters, i, it) {
		print_adapter(it, i == 0);
		printed += print_vtds(mappings, json_string_value(json_object_get(it, "svsa")));
	}
	if (printed < json_array_size(mappings))
		print_orphans(adapters, mappings);
	return true;
}
